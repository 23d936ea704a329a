"""Fills templates of clinical notes with made-up people and real institutions, and marks the identifiers.

A template is text with slots such as {pt.full}, {d0.era} or {hosp}. `LABELS` names the kind of each slot; a slot
without one is filled in as plain text. Names come from gimei (MIT, `pip install gimei==0.2.3`), from which neither
the lists nor the model of the package are made. Nobody in the notes exists.
"""

import datetime as dt
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from deidentification_forms import (
    BUILDINGS,
    DATES,
    DIGITS,
    DOMAINS,
    EMPLOYERS,
    FACILITIES,
    FOREIGN,
    OLD_FORMS,
    half_kana,
    kanji_number,
    wide,
)

from jmedllm.corpus.deidentify.evaluate import AnnotatedText, GoldSpan
from jmedllm.corpus.deidentify.lexicon import to_katakana, to_romaji
from jmedllm.errors import InputError

TEMPLATES = Path(__file__).with_name("deidentification_templates")
_SLOT = re.compile(r"\{([a-z_]+)(\d*)(?:\.(\w+))?\}")
_PEOPLE = ("pt", "kin", "child", "dr", "friend")
LABELS = dict.fromkeys((*_PEOPLE, "foreign"), "NAME") | {
    "d": "DATE", "dob": "DATE", "dobold": "DATE", "old": "AGE90", "tel": "PHONE", "ext": "PHONE", "fax": "FAX",
    "postal": "POSTAL", "addr": "ADDRESS", "home": "ADDRESS", "city": "LOCATION", "station": "LOCATION",
    "hosp": "HOSPITAL", "clinic": "HOSPITAL", "facility": "HOSPITAL", "ward": "WARD", "org": "ORG", "mail": "EMAIL",
    "url": "URL", "id": "PATIENT_ID", "ins": "INSURANCE_ID", "my": "MYNUMBER", "licence": "LICENSE_ID",
    "account": "ACCOUNT_ID", "device": "DEVICE_ID",
}  # fmt: skip


@dataclass(frozen=True)
class Person:
    """A made-up person: (kanji, reading in hiragana) of both names."""

    family: tuple[str, str]
    given: tuple[str, str]

    def written(self, form: str) -> str:
        """Return the name in a form."""
        (family, family_kana), (given, given_kana) = self.family, self.given
        kata = f"{to_katakana(family_kana)} {to_katakana(given_kana)}"
        latin = [to_romaji(each).replace("ou", "o").replace("uu", "u") for each in (family_kana, given_kana)]
        forms = {
            "full": family + given,
            "space": f"{family} {given}",
            "wide": f"{family}　{given}",
            "sur": family,
            "given": given,
            "kata": kata,
            "katafull": kata.replace(" ", ""),
            "hira": f"{family_kana} {given_kana}",
            "hirafull": family_kana + given_kana,
            "half": half_kana(kata),
            "halffull": half_kana(kata.replace(" ", "")),
            "surkata": to_katakana(family_kana),
            "givenkata": to_katakana(given_kana),
            "givenhira": given_kana,
            "romaji": f"{latin[1].title()} {latin[0].title()}",
            "romaji_rev": f"{latin[0].upper()} {latin[1].title()}",
            "romaji_comma": f"{latin[0].title()}, {latin[1].title()}",
            "spread": " ".join(family + given),
        }
        return forms[form]


@dataclass(frozen=True)
class Pools:
    """What slots are drawn from."""

    families: Sequence[tuple[str, str]]
    givens: Sequence[tuple[str, str]]
    municipalities: Sequence[tuple[str, str]]
    institutions: Sequence[Sequence[str]]

    @classmethod
    def read(cls, deid: Path, institutions: Sequence[Sequence[str]]) -> "Pools":
        """Read the names of gimei and the municipalities of the data directory."""
        try:
            file = files("gimei") / "data" / "names.yml"
        except ModuleNotFoundError:
            raise InputError("the notes need names of gimei: pip install gimei==0.2.3") from None
        names: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
        both = [*names["first_name"]["male"], *names["first_name"]["female"]]
        lines = (deid / "names" / "municipalities.tsv").read_text("utf-8").splitlines()
        return cls(
            [(row[0], row[1]) for row in names["last_name"]],
            [(row[0], row[1]) for row in both],
            [(line.split("\t")[0], line.split("\t")[1]) for line in lines],
            institutions,
        )


@dataclass
class Case:
    """The people, dates and numbers of one note; the same slot has the same value everywhere in it."""

    rng: random.Random
    pools: Pools
    values: dict[str, str] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    dates: dict[str, dt.date] = field(default_factory=dict)

    def value(self, head: str, number: str, form: str) -> str:
        """Return what a slot is filled with."""
        key = f"{head}{number}.{form}"
        if key not in self.values:
            self.values[key] = self._draw(head, number, form)
        return self.values[key]

    def _draw(self, head: str, number: str, form: str) -> str:
        if head in _PEOPLE:
            return self._person(head, number).written(form or "full")
        if head in ("d", "dob", "dobold"):
            return DATES[form](self._date(head, number))
        maker: Callable[[str], str] = getattr(self, f"_{head}")
        return maker(form)

    def _person(self, head: str, number: str) -> Person:
        if head + number not in self.people:
            family = (
                self._person("pt", "").family if head in ("kin", "child") else self.rng.choice(self.pools.families)
            )
            if head == "pt" and self.rng.random() < 0.3:
                family = (OLD_FORMS.get(family[0], family[0]), family[1])
            self.people[head + number] = Person(family, self.rng.choice(self.pools.givens))
        return self.people[head + number]

    def _date(self, head: str, number: str) -> dt.date:
        if head + number not in self.dates:
            visit = dt.date(2016, 1, 5) + dt.timedelta(self.rng.randrange(3800))
            if head == "dob":
                visit = dt.date(1930, 1, 3) + dt.timedelta(self.rng.randrange(28000))
            elif head == "dobold":
                visit = dt.date(1927, 1, 3) + dt.timedelta(self.rng.randrange(1500))
            self.dates[head + number] = visit
        return self.dates[head + number]

    def _age(self, form: str) -> str:
        return str(self.rng.randrange(20, 89)) if form != "child" else str(self.rng.randrange(1, 12))

    def _old(self, form: str) -> str:
        age = self.rng.randrange(90, 103)
        kanji = kanji_number(age) if age < 100 else "百" + (kanji_number(age - 100) if age > 100 else "")
        return {"": f"{age}歳", "sai": f"{age}才", "wide": f"{wide(str(age))}歳", "kanji": f"{kanji}歳"}[form]

    def _foreign(self, form: str) -> str:
        return self.rng.choice(FOREIGN)

    def _tel(self, form: str) -> str:
        rng = self.rng
        cell = (rng.choice(("070", "080", "090")), f"{rng.randrange(1000, 9999)}", f"{rng.randrange(10000):04}")
        area, size = rng.choice((("03", 4), ("06", 4), ("048", 3), ("0776", 2), ("092", 3), ("0258", 2), ("098", 3)))
        land = (area, f"{rng.randrange(2 * 10 ** (size - 1), 10**size)}", f"{rng.randrange(10000):04}")
        forms = {
            "": "-".join(cell),
            "plain": "".join(cell),
            "spaces": " ".join(cell),
            "wide": wide("-".join(cell)),
            "long": "ー".join(map(wide, cell)),
            "dots": ".".join(cell),
            "land": "-".join(land),
            "landplain": "".join(land),
            "paren": f"{land[0]}（{land[1]}）{land[2]}",
            "paren2": f"({land[0]}){land[1]}-{land[2]}",
            "landwide": "−".join(map(wide, land)),
            "intl": f"+81 {cell[0][1:]}-{cell[1]}-{cell[2]}",
        }
        return forms[form]

    def _fax(self, form: str) -> str:
        return self._tel(form or "land")

    def _ext(self, form: str) -> str:
        return str(self.rng.randrange(2000, 8999))

    def _postal(self, form: str) -> str:
        first, last = f"{self.rng.randrange(1, 999):03}", f"{self.rng.randrange(10000):04}"
        forms = {"": f"{first}-{last}", "wide": wide(f"{first}-{last}"), "long": wide(first) + "ー" + wide(last)}
        return forms[form]

    def _addr(self, form: str) -> str:
        return self.rng.choice(self.pools.institutions)[2]

    def _home(self, form: str) -> str:
        rng = self.rng
        prefecture, city = rng.choice(self.pools.municipalities)
        town = rng.choice(("本町", "大字西方", "緑が丘", "中央", "上ノ原", "字宮前", "東", "八幡町", "向陽台", "新田"))
        a, b, c = rng.randrange(1, 9), rng.randrange(1, 40), rng.randrange(1, 25)
        end = rng.choice(BUILDINGS).format(rng.randrange(101, 909))
        forms = {
            "": f"{prefecture}{city}{town}{a}-{b}-{c}{end}",
            "short": f"{city}{town}{a}-{b}",
            "ban": f"{prefecture}{city}{town}{a}丁目{b}番{c}号{end}",
            "banchi": f"{city}{town}{b * 37}番地{c}",
            "kanji": f"{prefecture}{city}{town}{DIGITS[a]}丁目{kanji_number(b)}番{kanji_number(c)}号",
            "wide": f"{prefecture}{city}{town}{wide(f'{a}-{b}-{c}')}",
            "spaced": f"{prefecture} {city} {town}{a}-{b}-{c}",
            "no": f"{city}{town}{a}の{b}の{c}",
        }
        return forms[form]

    def _city(self, form: str) -> str:
        prefecture, city = self.rng.choice(self.pools.municipalities)
        return {"": prefecture + city, "alone": city}[form]

    def _station(self, form: str) -> str:
        return self._town() + "駅"

    def _town(self) -> str:
        city = re.sub(r"^.*?郡|(?<=市).+区$", "", self.rng.choice(self.pools.municipalities)[1])
        return city[:-1] if len(city) > 2 else city

    def _hosp(self, form: str) -> str:
        rng, town = self.rng, self._town()
        chosen = form or rng.choice(("real", "real", "city", "general", "redcross", "university", "centre", "short"))
        forms = {
            "real": rng.choice(self.pools.institutions)[0],
            "city": f"{town}市民病院",
            "general": f"{town}総合病院",
            "redcross": f"{town}赤十字病院",
            "university": f"{town}医科大学附属病院",
            "centre": f"国立病院機構{town}医療センター",
            "short": f"{town}{rng.choice(('中央', '協立', '厚生', '徳洲会', '記念'))}病院",
        }
        return forms[chosen]

    def _clinic(self, form: str) -> str:
        rng = self.rng
        family, kana = rng.choice(self.pools.families)
        ends = (
            "内科",
            "クリニック",
            "医院",
            "整形外科",
            "内科クリニック",
            "眼科",
            "皮膚科",
            "こどもクリニック",
            "歯科医院",
            "診療所",
        )
        return rng.choice((family, family, kana)) + rng.choice(ends)

    def _facility(self, form: str) -> str:
        return self.rng.choice(FACILITIES)

    def _org(self, form: str) -> str:
        return self.rng.choice(EMPLOYERS)

    def _ward(self, form: str) -> str:
        rng = self.rng
        forms = ("{}階{}病棟", "{1}{0}病棟", "{}{}病棟", "{0}F病棟")
        side = rng.choice("東西南北")
        if form == "room":
            return f"{rng.randrange(201, 999)}号室"
        return rng.choice(forms).format(rng.randrange(3, 12), side)

    def _id(self, form: str) -> str:
        n = f"{self.rng.randrange(10**8):08}"
        forms = {
            "": n,
            "seven": n[:7],
            "six": n[:6],
            "ten": "00" + n,
            "hyphen": f"{n[:3]}-{n[3:7]}-{n[7]}",
            "wide": wide(n),
            "letter": f"{self.rng.choice('KMTXB')}{n[:7]}",
            "path": f"{self.rng.choice('SHCB')}{n[:2]}-{n[2:7]}",
            "year": f"20{n[0]}{n[1]}-{n[2:6]}",
            "zero": f"No.{n[:6]}"[3:],
            "space": f"{n[:4]} {n[4:]}",
        }
        return forms[form]

    def _ins(self, form: str) -> str:
        n = f"{self.rng.randrange(10**10):010}"
        return {"": n[:8], "symbol": n[:4], "number": n[:6], "care": n, "wide": f"{wide(n[:3])}・{wide(n[3:7])}"}[form]

    def _my(self, form: str) -> str:
        digits = [self.rng.randrange(10) for _ in range(11)]
        weighted = sum(d * (n + 1 if n <= 6 else n - 5) for n, d in enumerate(reversed(digits), start=1)) % 11
        number = "".join(map(str, digits)) + str(0 if weighted <= 1 else 11 - weighted)
        groups = (number[:4], number[4:8], number[8:])
        return {"": number, "group": "-".join(groups), "space": " ".join(groups), "wide": wide(number)}[form]

    def _licence(self, form: str) -> str:
        return f"{self.rng.randrange(10**5, 10**6)}"

    def _account(self, form: str) -> str:
        return f"{self.rng.randrange(10**6, 10**7)}"

    def _device(self, form: str) -> str:
        return f"{self.rng.choice(('PJN', 'ABX', 'SN'))}{self.rng.randrange(10**5, 10**6)}"

    def _mail(self, form: str) -> str:
        family = to_romaji(self._person("pt", "").family[1])
        user = family + self.rng.choice(("", "_h", ".k", "1962", "-m"))
        text = f"{user}@{self.rng.choice(DOMAINS)}"
        return wide(text) if form == "wide" else text

    def _url(self, form: str) -> str:
        server = self.rng.choice(("karte", "portal", "www"))
        return f"https://{server}.example.jp/{self.rng.choice(('p', 'image', 'reserve'))}/{self.rng.randrange(10**6)}"


def read_templates(batch: str) -> list[tuple[str, str]]:
    """Return (name, text) of the templates of a batch. A line "### NAME" begins one."""
    blocks = re.split(r"(?m)^### (.+)\n", (TEMPLATES / f"{batch}.txt").read_text("utf-8"))[1:]
    return [(name, text.strip("\n")) for name, text in zip(blocks[::2], blocks[1::2], strict=True)]


def batches() -> list[str]:
    """Return the names of the batches in the order in which they were written."""
    return sorted(path.stem for path in TEMPLATES.glob("*.txt"))


@dataclass(frozen=True)
class WrittenNote:
    """A note, its people by slot, and which of its spans name the patient, or the patient and staff."""

    text: AnnotatedText
    people: Mapping[str, Person]
    patients: tuple[GoldSpan, ...]
    listed: tuple[GoldSpan, ...]


def is_listed(slot: str) -> bool:
    """Return whether the lists have the person of a slot: the patient and staff, but neither family nor others."""
    return slot == "pt" or slot.startswith("dr")


def notes(batch: str, pools: Pools, seed: int, of_each: int) -> Iterator[WrittenNote]:
    """Yield notes of a batch, `of_each` of each template. The same arguments give the same notes."""
    for name, template in read_templates(batch):
        for number in range(of_each):
            case = Case(random.Random(f"{seed}/{name}/{number}"), pools)
            text, spans = render(template, case)
            patients = tuple(span for slot, span in spans if slot == "pt")
            listed = tuple(span for slot, span in spans if is_listed(slot))
            where = f"{batch}/{name}/{number}"
            yield WrittenNote(
                AnnotatedText(text, tuple(span for _, span in spans), where), case.people, patients, listed
            )


def render(template: str, case: Case) -> tuple[str, list[tuple[str, GoldSpan]]]:
    """Fill the slots of a template; return the text, and the slot and the span of each identifier."""
    text, position = "", 0
    spans: list[tuple[str, GoldSpan]] = []
    for match in _SLOT.finditer(template):
        text += template[position : match.start()]
        value = case.value(match[1], match[2], match[3] or "")
        if match[1] in LABELS:
            slot = match[1] + match[2]
            spans.append((slot, GoldSpan(len(text), len(text) + len(value), LABELS[match[1]])))
        text += value
        position = match.end()
    return text + template[position:], spans
