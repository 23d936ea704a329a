"""Generates clinical notes with marked names for the training of the name model. Nobody in them exists.

A fragment is a line with slots such as {full}. A slot in `SPANNED` becomes a span; the others are filled in as text.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmedllm.corpus.deidentify.lexicon import given_rows, surname_rows, to_katakana, to_romaji
from jmedllm.corpus.deidentify.lists import rows

_SCIENTIFIC = str.maketrans("、。", "，．")
SLOT = re.compile(r"\{(\w+)\}")

SPANNED = {
    "full": "NAME", "sur": "NAME", "given": "NAME", "who": "NAME", "kana": "NAME", "kata_given": "NAME",
    "romaji": "NAME",
    "foreign": "NAME", "initial": "NAME", "doctor": "NAME",
    "hosp": "HOSPITAL", "clinic": "HOSPITAL", "home": "HOSPITAL", "pharmacy": "HOSPITAL",
    "org": "ORG", "place": "LOCATION", "station": "LOCATION",
}  # fmt: skip

TITLES = (
    "さん",
    "様",
    "氏",
    "先生",
    "医師",
    "Dr",
    "Dr.",
    "殿",
    "くん",
    "君",
    "ちゃん",
    "看護師",
    "師長",
    "さま",
    " Dr",
    "技師",
    "薬剤師",
    "部長",
    "教授",
    "主任",
    "Ns",
)
ROLES = (
    "主治医", "担当医", "術者", "執刀医", "助手", "第一助手", "第二助手", "指導医", "麻酔科医", "麻酔", "麻酔担当",
    "看護師", "担当看護師", "外回り", "器械出し", "薬剤師",
    "担当薬剤師", "読影医", "読影者", "診断医", "病理医", "検査技師", "担当", "記載者", "記録者", "記入者", "記載",
    "依頼医", "紹介医", "院長", "施設長", "病棟師長", "師長",
    "主任", "MSW", "PT", "OT", "ST", "CM", "ケアマネジャー", "ケアマネ", "理学療法士", "作業療法士", "言語聴覚士",
    "管理栄養士", "栄養士", "臨床心理士", "相談員",
    "担当者", "責任者", "管理者", "通訳", "助産師", "保健師", "研修医", "上級医", "当直医", "当直", "救急隊長",
    "救急隊員", "Ns", "Dr", "説明者", "同席者", "立会人", "署名",
    "承認者", "入力者", "確認者", "受持", "受け持ち", "サイン", "文責", "報告者", "検査者", "評価者", "臨床工学技士",
    "放射線技師", "訪問看護師", "コンサル先", "申し送り先",
)  # fmt: skip
RELATIVES = (
    "妻", "夫", "長男", "次男", "三男", "長女", "次女", "父", "母", "実母", "実父", "義母", "兄", "弟", "姉", "妹",
    "孫", "叔父", "叔母", "嫁", "婿", "同居人", "内縁の妻",
    "キーパーソン", "保護者", "後見人", "家族", "付き添い", "緊急連絡先", "友人", "同僚", "知人", "隣人", "元妻",
    "養母", "祖母", "祖父", "いとこ", "代諾者", "配偶者",
)  # fmt: skip
PATIENT_KEYS = (
    "氏名", "患者氏名", "患者名", "お名前", "名前", "患者", "症例", "受診者", "受診者氏名", "利用者", "利用者名",
    "被保険者氏名", "本人氏名", "姓名", "傷病者", "入所者",
    "妊婦氏名", "児の氏名", "対象者", "Patient", "Name", "Pt", "氏 名", "患者さん氏名",
)  # fmt: skip
DEPARTMENTS = (
    "内科", "外科", "整形外科", "皮膚科", "小児科", "眼科", "耳鼻咽喉科", "脳神経外科", "産婦人科", "循環器内科",
    "消化器内科", "呼吸器内科", "泌尿器科", "精神科",
    "心療内科", "神経内科", "歯科", "腎臓内科", "形成外科", "リウマチ科", "放射線科", "麻酔科", "救急科", "血液内科",
    "糖尿病内科", "乳腺外科", "緩和ケア科", "レディース",
    "こども", "胃腸科", "肛門科", "脳外科", "皮フ科", "皮ふ科", "耳鼻科", "内科小児科", "外科内科", "胃腸内科",
    "ファミリー", "メンタル", "ハート", "ホーム", "メディカル",
    "スキン", "アイ", "デンタル", "ペイン", "リハビリ", "在宅", "訪問", "総合", "キッズ", "ウィメンズ", "女性",
    "糖尿病", "透析", "消化器", "アレルギー", "脳神経",
)  # fmt: skip
PRACTICE = tuple(each for each in DEPARTMENTS if each.endswith("科"))
KANA_WORDS = (
    "ひまわり", "さくら", "すみれ", "あおぞら", "やすらぎ", "つばさ", "なごみ", "きぼう", "みどり", "はなみずき",
    "たんぽぽ", "こころ", "にじ", "にじいろ", "あさひ", "ひかり",
    "のぞみ", "かがやき", "ほほえみ", "わかば", "あじさい", "コスモス", "けやき", "ゆうあい", "まごころ", "ふれあい",
    "やまびこ", "せせらぎ", "みなと", "うみかぜ", "おひさま",
    "ふたば", "かえで", "くすのき", "もみのき", "しらかば", "すずらん", "なのはな", "オレンジ", "グリーン",
    "サンライズ", "ハーモニー", "エバー", "アップル", "ラベンダー", "スマイル",
    "あゆみ", "あおい", "みらい", "いぶき", "きらら", "ゆめ", "ほし", "つきのわ", "はるかぜ", "こもれび", "ことり",
    "ぽかぽか", "うさぎ", "とまと", "れんげ", "もも", "ぶどう",
    "ポプラ", "アカシア", "シーサイド", "ベイ", "セントラル", "パーク", "タワー", "ステーション", "駅前", "北の台",
    "緑が丘", "虹の森", "光", "青空", "若草", "桜台", "星の", "森の",
    "海の見える", "丘の上の", "みんなの", "あなたの", "まちの", "わが家の", "こどもとみんなの", "なないろ",
    "そよかぜ", "ひなた", "ゆう", "りんご", "花水木", "万葉", "楓", "桂", "欅",
)  # fmt: skip
CORPORATE = (
    "慈恵", "仁和", "健生", "明徳", "和光", "清和", "恵愛", "博愛", "聖愛", "三愛", "誠心", "正和", "青葉", "双葉",
    "松風", "白鳳", "五輪", "平成", "大和", "愛生", "康生", "翔",
    "順天", "心和", "真生", "敬仁", "厚生", "済生", "慈光", "幸仁", "桜", "慶幸", "明洋", "日高", "育生", "契成",
    "壮心", "将明", "創輝", "平郁", "香流", "三井", "石心", "一晴", "凛",
    "恵寿", "豊", "祐和", "尚志", "寿量", "永和", "泉", "医真", "純正", "信愛", "同仁", "杏林", "春秋", "千寿",
    "白水", "涼風", "志仁", "友希", "恭生", "清峰", "葵", "輝", "光", "ひまわり",
)  # fmt: skip
LEGAL = (
    "医療法人",
    "医療法人社団",
    "医療法人財団",
    "社会医療法人",
    "社会福祉法人",
    "公益財団法人",
    "一般財団法人",
    "特定医療法人",
    "独立行政法人",
    "地方独立行政法人",
    "学校法人",
    "一般社団法人",
)
MIDDLE = (
    "中央",
    "第一",
    "第二",
    "記念",
    "東",
    "西",
    "南",
    "北",
    "みなと",
    "総合",
    "中部",
    "市民",
    "厚生",
    "赤十字",
    "済生会",
    "徳洲会",
    "共立",
    "協同",
    "リハビリテーション",
    "温泉",
    "循環器",
    "脳神経外科",
    "こども",
    "がん",
    "駅前",
    "救急",
    "健康",
    "青洲会",
    "医師会",
    "労災",
    "逓信",
    "共済",
    "社会保険",
    "鉄道",
    "聖マリア",
    "友愛",
)
HOSPITAL_ENDS = (
    "病院",
    "病院",
    "病院",
    "総合病院",
    "医療センター",
    "中央病院",
    "総合医療センター",
    "附属病院",
    "リハビリテーション病院",
    "大学病院",
    "大学医学部附属病院",
    "市民病院",
    "がんセンター",
    "こども病院",
    "循環器病センター",
    "療養所",
    "療育センター",
    "診療所",
    "健診センター",
    "保健所",
)
HOMES = (
    "特別養護老人ホーム", "介護老人保健施設", "グループホーム", "訪問看護ステーション", "デイサービス",
    "デイサービスセンター", "有料老人ホーム", "ケアハウス", "老健", "特養",
    "小規模多機能", "居宅介護支援事業所", "地域包括支援センター", "サービス付き高齢者向け住宅", "児童養護施設",
    "ケアプランセンター", "ヘルパーステーション", "障害者支援施設",
)  # fmt: skip
HOME_ENDS = ("", "苑", "園", "荘", "の里", "の家", "の郷", "の森", "ホーム", "の丘", "館", "")
COMPANY_CORES = (
    "青空", "みどり", "ひかり", "若葉", "東雲", "日の出", "丸山", "三友", "大成", "北斗", "山一", "中央", "東洋",
    "昭和", "旭", "新栄", "共栄", "富士", "金剛", "南海", "瀬戸内", "アルファ",
    "サンエー", "ミナト", "カネヨシ", "マルハチ", "ヤマト", "フジタ", "タカラ", "オリオン", "テクノ", "エコ",
    "ダイイチ", "ニシキ", "桜台", "松原", "梅田", "城北", "港", "緑", "暁", "白鷺",
)  # fmt: skip
COMPANY_ENDS = (
    "運送", "建設", "製作所", "工業", "商事", "電機", "食品", "印刷", "物産", "小学校", "中学校", "高校", "高等学校",
    "幼稚園", "保育園", "大学", "銀行", "信用金庫", "市役所", "交通",
    "自動車", "工務店", "鉄工所", "水産", "化学", "精機", "タクシー", "スーパー", "商店", "農協", "消防署", "警察署",
    "郵便局", "こども園", "専門学校", "株式会社", "塗装", "警備", "観光", "不動産",
)  # fmt: skip
FOREIGN = (
    "グエン・ヴァン・ナム", "トラン・ティ・ホア", "レ・クアン・ミン", "ホセ・ガルシア", "アナ・ペレイラ",
    "カルロス・オリヴェイラ", "デイヴィッド・ブラウン", "エミリー・ウィルソン", "マイケル・ジョンソン",
    "サラ・ミラー", "チャン・ウェイ", "リ・シャオメイ", "パク・ジフン", "キム・ミンジ", "アリ・ハッサン",
    "ファティマ・カーン", "ラジェシュ・クマール", "プリヤ・シャルマ", "マリア・クルス", "ジョセフ・サントス",
    "イワン・ペトロフ", "オルガ・イワノワ", "李 明華", "張 偉", "陳 美玲", "劉 洋", "朴 智勲", "金 美京", "崔 俊浩",
    "鄭 秀珍", "林 志強", "黄 暁明", "呉 建国", "周 麗華", "Tran Van Minh", "Le Thi Hoa",
    "Pham Quoc Anh", "Jose Garcia", "Ana Pereira", "Carlos Souza", "David Brown", "Emily Wilson", "Michael Johnson",
    "Sarah Miller", "Zhang Wei", "Li Xiaomei", "Park Jihoon", "Kim Minji",
    "Ali Hassan", "Fatima Khan", "Rajesh Kumar", "Priya Sharma", "Ivan Petrov", "Maria Cruz", "John Miller",
    "Peter Schmidt", "スレシュ・タパ", "アウン・ミン", "ナルゲス・アフマディ", "ルイス・フェルナンデス",
)  # fmt: skip
SYMPTOMS = (
    "発熱",
    "咳嗽",
    "腹痛",
    "胸痛",
    "頭痛",
    "めまい",
    "呼吸困難",
    "嘔吐",
    "下痢",
    "倦怠感",
    "しびれ",
    "意識障害",
    "血尿",
    "腰痛",
    "動悸",
    "浮腫",
    "食欲不振",
    "不眠",
    "関節痛",
    "皮疹",
)
DISEASES = (
    "肺炎", "高血圧症", "2型糖尿病", "心不全", "脳梗塞", "胃癌", "虫垂炎", "大腿骨頸部骨折", "川崎病", "橋本病",
    "パーキンソン病", "クローン病", "バセドウ病", "菊池病", "高安動脈炎",
    "アルツハイマー型認知症", "シェーグレン症候群", "ギラン・バレー症候群", "メニエール病", "ベーチェット病",
    "脂質異常症", "気管支喘息", "慢性腎臓病", "統合失調症", "うつ病", "胆石症",
    "太田母斑", "原田病", "木村病", "平山病", "もやもや病", "IgA腎症", "関節リウマチ", "帯状疱疹", "白内障",
    "緑内障", "中耳炎", "褥瘡", "急性心筋梗塞", "大動脈解離",
)  # fmt: skip
DRUGS = (
    "アムロジピン錠5mg「サワイ」", "ロキソプロフェン錠60mg「トーワ」", "メトホルミン錠250mg「ニプロ」",
    "ランソプラゾールOD錠15mg「日医工」", "酸化マグネシウム錠330mg「ヨシダ」", "カロナール錠500",
    "ツムラ抑肝散", "ワーファリン錠1mg", "プレドニゾロン錠5mg「タケダ」", "フロセミド錠20mg「武田テバ」",
    "マイスリー錠5mg", "ムコダイン", "タケキャブ錠10mg", "ノボラピッド", "セレコキシブ錠100mg「明治」",
    "クラリスロマイシン錠200mg「大原」", "ピタバスタチン錠1mg「杏林」", "ファモチジン錠20mg「杏林」", "葛根湯",
    "小青竜湯", "ハルシオン", "レンドルミン", "芍薬甘草湯", "オロパタジン錠5mg「ケミファ」",
)  # fmt: skip

FRAGMENTS = tuple(
    line.replace("\\n", "\n")
    for line in Path(__file__).with_name("deidentification_fragments.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)


@dataclass(frozen=True)
class Note:
    """A generated text with (start, end, label) of its names."""

    text: str
    spans: tuple[tuple[int, int, str], ...]


class Pools:
    """Draws what slots are filled with. Some surnames are in no list, so that the model learns their context."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        surnames = list(surname_rows())
        self.common, self.rare = surnames[:400], surnames
        self.given_names = [each for each in given_rows() if len(each[0]) <= 3]
        self.heads = sorted({name[0] for name, _ in surnames if len(name) == 2})
        self.tails = sorted({name[1] for name, _ in surnames if len(name) == 2})
        self.places = rows("municipalities.tsv")
        self.eponyms = [row[0] for row in rows("eponyms.tsv")]

    def surname(self) -> tuple[str, str]:
        """Draw a surname and its reading."""
        chance = self.rng.random()
        if chance < 0.15:
            return self.rng.choice(self.heads) + self.rng.choice(self.tails), self.rng.choice(self.rare)[1]
        return self.rng.choice(self.common if chance < 0.45 else self.rare)

    def given(self) -> tuple[str, str]:
        """Draw a given name and its reading."""
        return self.rng.choice(self.given_names)

    def place(self) -> tuple[str, str]:
        """Draw a prefecture and a municipality of it."""
        prefecture, city = self.rng.choice(self.places)
        return prefecture, city

    def draw(self, slot: str) -> str:
        """Draw what a slot is filled with."""
        rng = self.rng
        maker: Callable[[], str] | None = getattr(self, f"_{slot}", None)
        if maker:
            return maker()
        listed: dict[str, Sequence[str]] = {
            "title": TITLES[:6] * 3 + TITLES,
            "role": ROLES,
            "rel": RELATIVES,
            "pkey": PATIENT_KEYS,
            "dept": PRACTICE,
            "foreign": FOREIGN,
            "symptom": SYMPTOMS,
            "disease": DISEASES,
            "drug": DRUGS,
            "sex": ("男性", "女性", "男", "女", "M", "F"),
            "sep": ("：", ":", "　", " ", "： ", "；", "："),
            "eponym": self.eponyms,
        }
        return rng.choice(listed[slot])

    def _full(self) -> str:
        sur, given = self.surname(), self.given()
        return sur[0] + self.rng.choice(("", "", "", " ", "　", "　")) + given[0]

    def _who(self) -> str:
        return self._sur() if self.rng.random() < 0.5 else self._full()

    def _doctor(self) -> str:
        return self._who()

    def _sur(self) -> str:
        return self.surname()[0]

    def _given(self) -> str:
        return self.given()[0] if self.rng.random() < 0.8 else to_katakana(self.given()[1])

    def _kata_given(self) -> str:
        name = self.given()[1]
        return to_katakana(name) if self.rng.random() < 0.5 else name

    def _kana(self) -> str:
        name = self.surname()[1] + self.rng.choice(("", " ", "　")) + self.given()[1]
        return to_katakana(name) if self.rng.random() < 0.7 else name

    def _romaji(self) -> str:
        family, first = (
            to_romaji(each[1]).replace("ou", "o").replace("uu", "u") for each in (self.surname(), self.given())
        )
        return self.rng.choice(
            (
                f"{first.title()} {family.title()}",
                f"{family.upper()} {first.title()}",
                f"{family.upper()} {first.upper()}",
                f"{family.title()}, {first.title()}",
                f"{family.title()} {first.title()}",
            )
        )

    def _initial(self) -> str:
        return (
            self.rng.choice("ABCDEFGHIJKMNORSTWY")
            + self.rng.choice((".", "・", ""))
            + self.rng.choice("AHIKMNRSTY")
            + self.rng.choice(("", "."))
        )

    def _core(self) -> str:
        """Return what the name of a provider begins with."""
        rng = self.rng
        family, chance = self.surname(), rng.random()
        city = self._short_place()
        if chance < 0.28:
            return family[0]
        if chance < 0.5:
            return family[1] if rng.random() < 0.75 else to_katakana(family[1])
        if chance < 0.62:
            return rng.choice(KANA_WORDS)
        if chance < 0.66:
            return self.given()[1] if rng.random() < 0.7 else to_katakana(self.given()[1])
        if chance < 0.7:
            begin = rng.choice((rng.choice(KANA_WORDS), self.given()[1], family[1]))
            return (
                begin
                + rng.choice(("の", "の", "が", "ヶ"))
                + rng.choice(("木", "里", "園", "村", "森", "街", "丘", "家", "杜", "郷", "風", "原", "浜"))
            )
        if chance < 0.8:
            return city
        if chance < 0.9:
            return city + rng.choice((family[0], family[1], rng.choice(KANA_WORDS)))
        return rng.choice(
            (
                family[0] + self.given()[0],
                rng.choice(KANA_WORDS) + family[0],
                family[1] + self.given()[1],
                rng.choice(KANA_WORDS) + rng.choice(KANA_WORDS),
            )
        )

    def _short_place(self) -> str:
        city = re.sub(r"^.*?郡|(?<=市).+区$", "", self.place()[1])
        return re.sub(r"[市区町村]$", "", city)

    def _legal(self) -> str:
        rng = self.rng
        body = rng.choice(CORPORATE) + (rng.choice(CORPORATE)[0] if rng.random() < 0.3 else "") + "会"
        chance = rng.random()
        if chance < 0.6:
            return ""
        if chance < 0.7:
            return rng.choice(LEGAL) + rng.choice(("", " ", "　"))
        return rng.choice(LEGAL) + rng.choice(("", " ", "　")) + body + rng.choice(("", " ", "　", " "))

    def _clinic(self) -> str:
        rng = self.rng
        core, chance = self._core(), rng.random()
        if chance < 0.35:
            name = (
                core
                + rng.choice(("", "", *DEPARTMENTS))
                + rng.choice(("クリニック", "クリニック", "クリニック", "診療所", "医院"))
            )
        elif chance < 0.65:
            name = (
                core
                + rng.choice(PRACTICE)
                + (rng.choice(PRACTICE) if rng.random() < 0.15 else "")
                + rng.choice(("", "", "", "医院", "クリニック", "診療所"))
            )
        elif chance < 0.85:
            name = core + rng.choice(
                (
                    "医院",
                    "医院",
                    "診療所",
                    "歯科",
                    "歯科医院",
                    "歯科クリニック",
                    "レディースクリニック",
                    "ホームクリニック",
                    "在宅クリニック",
                )
            )
        elif chance < 0.93:
            name = (
                rng.choice(
                    (
                        "レディースクリニック",
                        "メディカルクリニック",
                        "メンタルクリニック",
                        "ファミリークリニック",
                        "クリニック",
                        "こどもクリニック",
                        "在宅診療所",
                        "おうち診療所 ",
                    )
                )
                + core
            )
        elif chance < 0.96:
            name = (
                rng.choice(
                    (rng.choice(PRACTICE), rng.choice(PRACTICE) + "・" + rng.choice(PRACTICE) + rng.choice((" ", "")))
                )
                + core
                + rng.choice(("クリニック", "医院", "診療所"))
            )
        else:
            name = (
                core
                + rng.choice(("クリニック", "皮膚科", "眼科", "診療所"))
                + rng.choice(("", " "))
                + rng.choice(("分院", "駅前院", self._short_place(), self._short_place() + "院", "本院"))
            )
        return self._legal() + name

    def _hosp(self) -> str:
        rng = self.rng
        if rng.random() < 0.35:
            return self._clinic()
        prefecture, _ = self.place()
        city = self._short_place()
        begin = rng.choice(
            (
                city,
                city,
                city,
                prefecture + "立" + city,
                prefecture,
                city + "市立",
                self._core(),
                self.surname()[0],
                "国立病院機構" + city,
                rng.choice(CORPORATE) + rng.choice(("会", "")),
                city + rng.choice(("市", "町", "村")) + "立",
            )
        )
        return self._legal() + begin + rng.choice(("", "", *MIDDLE)) + rng.choice(HOSPITAL_ENDS)

    def _home(self) -> str:
        rng = self.rng
        name = rng.choice((*KANA_WORDS, self._short_place(), rng.choice(CORPORATE)))
        return (
            self._legal() * (rng.random() < 0.2)
            + rng.choice(HOMES)
            + rng.choice(("", "", "", " ", "　"))
            + name
            + rng.choice(HOME_ENDS)
        )

    def _pharmacy(self) -> str:
        rng = self.rng
        begin = rng.choice(
            (
                *KANA_WORDS,
                self.surname()[0],
                self._short_place(),
                "アイン",
                "日本調剤",
                "クオール",
                "スギ",
                "ウエルシア",
                "ココカラファイン",
                "マツモトキヨシ",
                "そうごう",
                "阪神調剤",
            )
        )
        return (
            begin
            + rng.choice(("薬局", "薬局", "調剤薬局"))
            + rng.choice(("", self._short_place() + "店", rng.choice(("駅前店", "本店", "中央店", "東口店"))))
        )

    def _org(self) -> str:
        rng = self.rng
        core = rng.choice(
            (
                rng.choice(COMPANY_CORES),
                rng.choice(KANA_WORDS),
                rng.choice(CORPORATE),
                self.surname()[0],
                self._short_place(),
            )
        )
        chance = rng.random()
        if chance < 0.2:
            return rng.choice(("株式会社", "有限会社", "合同会社")) + core + rng.choice(("", *COMPANY_ENDS[:9]))
        if chance < 0.35:
            return core + rng.choice(COMPANY_ENDS[:9]) + rng.choice(("株式会社", "有限会社"))
        return (
            rng.choice(("", "", "", self._short_place() + "市立", "県立"))
            + core
            + rng.choice(("", "", "第一", "東", "西"))
            + rng.choice(COMPANY_ENDS)
        )

    def _place(self) -> str:
        prefecture, city = self.place()
        return self.rng.choice(
            (city, city, prefecture + city, self._short_place() if len(self._short_place()) > 9 else city)
        )

    def _station(self) -> str:
        return self._short_place() + "駅"

    def _age(self) -> str:
        number = str(self.rng.randrange(1, 90))
        return number if self.rng.random() < 0.8 else number.translate({code: code + 0xFEE0 for code in range(48, 58)})

    def _id(self) -> str:
        return f"{self.rng.randrange(10**8):08}"

    def _phone(self) -> str:
        return (
            f"0{self.rng.choice((3, 6, 45, 90, 80))}-{self.rng.randrange(1000, 9999)}-{self.rng.randrange(10**4):04}"
        )

    def _date(self) -> str:
        rng = self.rng
        year, month, day = rng.randrange(2010, 2027), rng.randrange(1, 13), rng.randrange(1, 29)
        return rng.choice(
            (
                f"{year}年{month}月{day}日",
                f"{month}月{day}日",
                f"{year}/{month}/{day}",
                f"R{year - 2009}.{month}.{day}",
                f"{month}/{day}",
            )
        )


def render(fragment: str, pools: Pools) -> Note:
    """Fill the slots of a fragment."""
    parts, spans, at, position = [], [], 0, 0
    for match in SLOT.finditer(fragment):
        literal = fragment[position : match.start()]
        value = pools.draw(match[1])
        at += len(literal)
        if match[1] in SPANNED:
            spans.append((at, at + len(value), SPANNED[match[1]]))
        at += len(value)
        parts += [literal, value]
        position = match.end()
    return Note("".join((*parts, fragment[position:])), tuple(spans))


def notes(seed: int, count: int) -> list[Note]:
    """Generate notes of one to eight fragments, joined by line ends, spaces or nothing."""
    rng = random.Random(seed)
    pools = Pools(rng)
    found = []
    for _ in range(count):
        text, spans = "", []
        for _ in range(rng.randrange(1, 9)):
            piece = render(rng.choice(FRAGMENTS), pools)
            spans += [(start + len(text), end + len(text), label) for start, end, label in piece.spans]
            text += piece.text
            closed = text.endswith(("。", "」"))
            text += (
                rng.choice(("\n", "\n", "\n", "", "　"))
                if closed
                else rng.choice(("\n", "\n", "　", "　", "\n・", "\n\n"))
            )
        if rng.random() < 0.15:
            text = text.translate(_SCIENTIFIC)  # the punctuation of journals
        found.append(Note(text, tuple(spans)))
    return found
