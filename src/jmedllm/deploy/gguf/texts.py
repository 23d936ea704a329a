"""Texts and questions on which a file is compared with its model: written for this package, part of no corpus."""

from collections.abc import Mapping

from jmedllm.demo import facts, relations

PROOF_TEXTS: Mapping[str, tuple[str, ...]] = {
    "ja": (
        "急性冠症候群が疑われる患者では、来院から10分以内に12誘導心電図を記録し、心筋トロポニンを測定する。ST上昇型"
        "心筋梗塞であれば、可能な限り早く経皮的冠動脈形成術を行う。アスピリンを噛み砕いて内服させ、酸素は飽和度が90"
        "％未満のときに投与する。右室梗塞では硝酸薬により血圧が急に下がることがある。",
        "慢性腎臓病は、糸球体濾過量の低下または蛋白尿などの腎障害が3か月以上続く状態である。原因は糖尿病、腎硬化症"
        "、慢性糸球体腎炎が多い。血圧は130/80 mmHg未満を目標とし、食塩は1日6 g未満に制限する。貧血、骨代謝の異常、"
        "代謝性アシドーシスにも注意し、進行すれば透析や移植の準備を始める。",
        "関節リウマチでは、手指の小関節が左右対称に腫れ、朝のこわばりが1時間以上続く。抗CCP抗体は特異度が高い。診断"
        "がつけばメトトレキサートを週1回投与し、葉酸を併用する。投与前に肝炎ウイルス、結核、間質性肺炎の有無を調べ"
        "、効果が足りない場合は生物学的製剤の追加を検討する。",
        "妊娠高血圧腎症は、妊娠20週以降に高血圧が生じ、蛋白尿や肝機能障害、血小板減少などを伴う病態である。頭痛、視"
        "覚の異常、上腹部痛は子癇の前触れとなりうる。重症例では硫酸マグネシウムで痙攣を予防し、母体と胎児の状態をみ"
        "て分娩の時期を決める。",
        "脳梗塞の急性期には、発症から4.5時間以内であればアルテプラーゼの静注を検討する。頭部CTで出血がないことを確"
        "かめ、血糖値と血圧を測る。主幹動脈が閉塞していれば機械的血栓回収療法の適応となる。嚥下機能を評価するまでは"
        "経口摂取を控え、早期からリハビリテーションを始める。",
        "気管支喘息の発作では、呼気の延長と喘鳴を認める。まず短時間作用性β2刺激薬を吸入させ、改善が乏しければ全身性"
        "ステロイドを投与する。話すことができない、意識がもうろうとする、呼吸音が弱いといった所見は重篤な発作を示す"
        "。長期管理の基本は吸入ステロイドであり、吸入の手技を毎回確認する。",
        "3歳の男児。5日間続く発熱、両側の眼球結膜の充血、口唇の紅潮、苺舌、体幹の不定形発疹、手足の硬性浮腫を認める"
        "。川崎病と診断し、免疫グロブリンの大量静注とアスピリンの内服を開始した。冠動脈瘤の有無を心エコー検査で経時"
        "的に評価し、退院後も外来で経過をみる。",
        "麻薬性鎮痛薬の主な副作用は便秘、悪心、眠気である。便秘には耐性が生じないため、投与の開始と同時に緩下薬を処"
        "方する。腎機能が低下した患者ではモルヒネの代謝物が蓄積しやすく、ヒドロモルフォンやフェンタニルへの変更を考"
        "える。突出痛には1日量の6分の1を目安に速放製剤を用いる。",
        "骨髄抑制をきたす化学療法の後、好中球が500/μL未満に減少した患者が38℃以上の発熱を呈した場合、発熱性好中球減"
        "少症として直ちに血液培養を2セット採取し、緑膿菌に有効な抗菌薬を投与する。身体所見では口腔、肛門周囲、カテ"
        "ーテルの刺入部を注意深く診察し、解熱しなければ抗真菌薬の追加を考慮する。",
    ),
    "en": (
        "A 71-year-old man with atrial fibrillation presents with sudden weakness of the right arm and difficulty "
        "speaking that began ninety minutes ago. His blood pressure is 168/92 mmHg and his blood glucose is "
        "normal. Computed tomography of the head shows no hemorrhage. Because he takes no anticoagulant, "
        "intravenous thrombolysis is given without delay, and an angiogram is obtained to look for an occlusion of "
        "a large artery that could be removed with a catheter. He stays without food until his swallowing has been "
        "tested.",
        "Iron deficiency is the most frequent cause of anemia in the world. Ferritin is low, transferrin is high, "
        "and the red cells are small and pale. In young women the usual reason is menstrual loss, but in men and "
        "in older women bleeding from the stomach or the colon has to be excluded by endoscopy. Oral iron is taken "
        "on an empty stomach every other day, and hemoglobin should rise by about two grams per deciliter within a "
        "month.",
        "Septic shock is treated within the first hour. Blood cultures are drawn, broad antibiotics are started, "
        "and thirty milliliters of crystalloid per kilogram of body weight are infused. If the mean arterial "
        "pressure remains below 65 mmHg, norepinephrine is the first vasopressor. Lactate is measured again after "
        "two to four hours, and the source of the infection, such as an abscess or an obstructed ureter, is "
        "drained as early as possible.",
        "Hypothyroidism develops slowly and is often mistaken for depression or for normal aging. Patients gain "
        "weight, feel cold, are constipated, and notice dry skin and a hoarse voice. Thyrotropin is elevated and "
        "free thyroxine is low in the primary form. Levothyroxine is taken in the morning before breakfast; in "
        "patients with coronary disease the dose begins at 25 micrograms and is raised every six weeks until "
        "thyrotropin is within the normal range.",
        "In a newborn who turns yellow during the first day of life, hemolysis must be suspected. The blood groups "
        "of mother and child are compared, and the direct antiglobulin test shows whether maternal antibodies are "
        "bound to the red cells. Phototherapy converts bilirubin into products that are excreted without "
        "conjugation. An exchange transfusion is needed if the concentration still rises toward the level at which "
        "it damages the basal ganglia.",
        "Patients with cirrhosis should have an upper endoscopy to look for varices. A nonselective beta blocker "
        "lowers the pressure in the portal vein and prevents the first hemorrhage. When ascites appears, a sample "
        "is examined for cells, protein and albumin; more than 250 neutrophils per microliter mean bacterial "
        "peritonitis, which is treated with a third-generation cephalosporin and albumin. Confusion may be a sign "
        "of encephalopathy and improves with lactulose.",
        "A fracture of the hip in an elderly person is repaired within 48 hours, because each day in bed increases "
        "the risk of pneumonia, pressure ulcers and venous thrombosis. Regional anesthesia and nerve blocks reduce "
        "the amount of opioids that is needed. After the operation the patient gets up on the first day, vitamin D "
        "and calcium are given, and treatment of osteoporosis begins before discharge so that the next fracture is "
        "prevented.",
        "Penicillin allergy is reported by one patient in ten, yet more than nine of ten of them tolerate "
        "penicillin when they are tested. A rash in childhood that was caused by a virus is a common explanation. "
        "If the reaction was remote and mild, a single oral dose of amoxicillin can be given under observation. "
        "Removing the label allows narrower antibiotics, shorter stays in the hospital and fewer infections with "
        "resistant bacteria.",
        "A child of two years wakes at night with a barking cough, a hoarse voice and stridor when she cries. She "
        "has had a mild cold for two days and no fever. Croup is usually caused by a parainfluenza virus. A single "
        "dose of oral dexamethasone shortens the illness, and nebulized epinephrine is added when stridor is heard "
        "at rest. Drooling, a toxic appearance or a preference for an upright position would instead suggest "
        "epiglottitis, and the throat should then not be examined outside the operating room.",
        "Acute angle closure presents with a painful red eye, blurred vision, halos around lights, headache and "
        "vomiting, so that it may be taken for an abdominal disorder. The pupil is mid-dilated and does not react, "
        "the cornea is hazy, and the eye feels hard. Topical beta blockers, pilocarpine and intravenous "
        "acetazolamide lower the pressure before a laser makes a hole in the iris. The other eye is treated as "
        "well, because it has the same narrow angle.",
        "Before a blood transfusion two people compare the name, the date of birth and the number of the unit at "
        "the bedside. The first fifteen minutes are observed closely. Fever, back pain, dark urine and a fall in "
        "blood pressure suggest an acute hemolytic reaction; the transfusion is stopped, the line is kept open "
        "with saline, and the bag is returned to the laboratory. Breathlessness with hypertension points to "
        "circulatory overload, whereas hypotension and fever favor acute lung injury.",
        "Delirium affects a third of older inpatients and is easily overlooked when it is quiet. It begins "
        "suddenly, fluctuates during the day, and impairs attention first. Infection, pain, retention of urine, "
        "constipation, dehydration and new drugs are the usual triggers. Glasses, hearing aids, a visible clock, "
        "daylight and the presence of relatives prevent many episodes. Sedatives are reserved for patients who "
        "endanger themselves or others, and physical restraints make the confusion worse.",
    ),
}
"""Medical texts by language."""


def proof_questions(count: int) -> list[str]:
    """Return short medical questions, every other one in Japanese.

    Args:
        count: number of questions.
    """
    known = facts()
    pairs = [known[number * 2 * len(known) // count] for number in range((count + 1) // 2)]
    asked = [
        relations()[fact.category][language]["questions"][0].format(subject=fact.subject[language])
        for fact in pairs
        for language in ("ja", "en")
    ]
    return asked[:count]
