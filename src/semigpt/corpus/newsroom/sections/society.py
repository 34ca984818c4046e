"""Society: fires, fraud, donations, schools, road accidents, town projects, health."""

from semigpt.corpus.newsroom.grammar import Section, sentence, story, two_sentences

_NEIGHBOUR_SPEAKS = sentence(
    """
    [이웃|인근] 주민 {person} 씨({age})는 “{witness}”고 [말했다|전했다|떠올렸다].
    [당시 현장에 있던|이를 지켜본] {person} 씨({age})는 “{witness}”며 [가슴을 쓸어내렸다|놀란 마음을 전했다].
    {years}년째 {trade:을} 하고 있는 {person} 씨는 “{witness}”라고 [했다|말했다].
    """,
    optional=True,
    paragraph=True,
)

_SAFETY_TALK = two_sentences(
    """
    {university} {person3} [소방방재학과|안전공학과] 교수는 “{safety_tip}”고 [강조했다|조언했다|당부했다].
    [한국|서울] 안에서만 [비슷한|이런] 사고가 해마다 {accidents}건 [일어난다|신고된다].
    {institute}에 따르면 [지난 5년 동안|최근 3년 사이] [비슷한|같은 유형의] 사고는 {accidents2}건으로 {injured_total}명이 다쳤다.
    [시민단체는|유가족들은] {safety_rule:을} [의무로 하는|강화하는] 법을 [서둘러|하루빨리] [만들어야|고쳐야] 한다고 [주장한다|요구했다].
    """
)

_FIRE = story(
    "화재",
    """
    {place.name} {building} 불…{injured}명 다쳐
    {place.name} {building} 화재, {minutes}분 만에 꺼져
    {building}에서 불…{injured}명 부상
    """,
    sentence(
        """
        {day}일 [오전|오후] {clock}시 {minute}분쯤 {place}의 한 {building}에서 불이 나 {injured}명이 다쳤다.
        {place}의 {building}에서 {day}일 [새벽|낮|저녁] 불이 나 {injured}명이 [연기를 마셨다|병원으로 옮겨졌다].
        """
    ),
    sentence(
        """
        불은 {fire_place:을} 태워 {damage}만 원의 재산 피해를 [내고|남기고] {minutes}분 만에 [꺼졌다|진화됐다].
        소방당국은 장비 {trucks}대와 인력 {firefighters}명을 [보내|투입해] {minutes}분 만에 불길을 [잡았다|껐다].
        """
    ),
    two_sentences(
        """
        [안에 있던|건물에 있던] {evacuees}명은 [스스로|직원의 안내로|비상계단으로] [빠져나왔다|대피했다].
        [소방관들은|구조대는] {fire_place}에 [갇힌|고립된] {rescued}명을 [사다리차로|에어매트로|밧줄로] [구했다|구조했다].
        [다친|부상당한] 사람은 대부분 {workers_kind:으로} [손과 얼굴에|팔다리에] [화상을 입었지만|상처를 입었지만] [목숨에는 지장이 없다|가벼운 상태다].
        """
    ),
    _NEIGHBOUR_SPEAKS,
    sentence(
        """
        경찰과 소방당국은 {fire_cause}에서 불이 [시작된|난] 것으로 보고 [정확한 원인을|경위를] [조사하고|살피고] 있다.
        [소방당국은|감식반은] {fire_cause:을} [원인으로|발화 지점으로] [보고 있다|추정하고 있다].
        불이 난 {building:은} {founded}년에 [지어져|세워져] {fire_gear:이} [없었던|갖춰지지 않았던] 것으로 [확인됐다|알려졌다].
        """
    ),
    _SAFETY_TALK,
    two_sentences(
        """
        {place.name} [당국은|지자체는] 집을 잃은 {families}가구를 [임시 숙소로|체육관으로] [옮기고|안내하고] {relief:을} [나눠 줬다|지원했다].
        {place.name} [당국은|지자체는] 오는 {later}일까지 지역 {building} {inspected}곳을 [점검한다|살펴보기로 했다].
        """
    ),
)

_FRAUD = story(
    "사건",
    """
    {fraud} 미끼로 {loot}억 원 가로챈 일당
    {police}, {fraud} 조직 {arrested}명 검거
    {fraud:으로} 속여 {loot}억 챙긴 {arrested}명 붙잡혀
    """,
    sentence(
        """
        {fraud:으로} 속여 {loot}억 원을 [가로챈|챙긴|뜯어낸] 일당 {arrested}명이 경찰에 [붙잡혔다|검거됐다].
        {police:은} {fraud:을} 미끼로 {loot}억 원을 [가로챈|빼돌린] 혐의로 {arrested}명을 [붙잡았다고|검거했다고] {day}일 [밝혔다|전했다].
        {day}일 {police:은} {fraud:을} 내세워 {loot}억 원을 [챙긴|받아 낸] 조직원 {arrested}명을 [체포했다|입건했다].
        """
    ),
    sentence(
        """
        이들은 {hack_year}년부터 [최근까지|올해 초까지] {fraud_victim} {victims_small}명에게 [접근해|전화를 걸어] [돈을 받아 낸|계좌로 돈을 보내게 한] 혐의를 받는다.
        [피해자는|속은 사람은] {victims_small}명으로 [대부분|열에 일곱은] {fraud_victim:이었다}.
        """
    ),
    two_sentences(
        """
        [일당은|이들은] {district:과} {country}에 사무실을 [차려|마련해] 놓고 [역할을 나눠|서로 다른 이름으로] [움직였다|활동했다].
        [조사 결과|수사 결과] [빼앗은|가로챈] 돈은 {luxury:과} {luxury2:을} [사는|구입하는] 데 [쓰였다|흘러갔다].
        [경찰은|수사팀은] {city}에서 {luxury:과} 현금 {cash}만 원을 [찾아|발견해] [압수했다|거둬들였다].
        """
    ),
    sentence(
        """
        [피해자|피해를 본] {person} 씨({age})는 “{victim_says}”고 [말했다|하소연했다|털어놨다].
        {trade:을} 하던 {person} 씨는 “{victim_says}”며 [눈물을 보였다|고개를 떨궜다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        {police} 관계자는 “{fraud_tip}”고 [당부했다|강조했다|경고했다].
        [경찰은|수사팀은] [달아난|해외에 있는] [총책|우두머리] {person9} 씨를 [쫓고|추적하고] [추가 피해가|숨은 공범이] 있는지 [살피고|조사하고] 있다.
        """
    ),
    two_sentences(
        """
        [이런|비슷한] 사기는 지난해 {accidents}건으로 {rise}% [늘었고|증가했고] 피해액은 {sales_small}억 원에 [이른다|달한다].
        {institute} {person2} [연구위원은|선임연구원은] “{fraud_tip2}”고 [조언했다|지적했다|말했다].
        [법원은|재판부는] 오는 {later}일 {arrested}명의 [구속 여부를|영장 실질 심사를] [결정한다|진행한다].
        """
    ),
)

_DONATION = story(
    "나눔",
    """
    {trade} {years}년…{donation}만 원 기부한 {person} 씨
    {person} 씨, {place.name} 이웃에 {donation}만 원
    “받은 사랑 돌려드려요” {person} 씨의 {donation}만 원
    """,
    sentence(
        """
        {place}에서 {years}년째 {trade:을} 하는 {person} 씨({age})가 [어려운 이웃을|형편이 어려운 학생을] 위해 {donation}만 원을 [내놓았다|기부했다].
        {years}년 동안 {trade:을} 해 온 {person} 씨({age})가 {day}일 {place} [주민센터에|복지관에] {donation}만 원을 [맡겼다|전달했다].
        """
    ),
    two_sentences(
        """
        {person} 씨는 {day_job:을} [하며|도우며] 하루 {coins}원씩 [돼지 저금통에|빈 항아리에] 돈을 [모았다|모아 왔다].
        [돈은|기부금은] {person} 씨가 {day_job} 틈틈이 {craft:을} [만들어 팔아|배워 팔아] [모은 것이다|마련했다].
        """
    ),
    sentence(
        """
        {person} 씨는 “{kind_words}”며 [웃었다|손사래를 쳤다|미소를 지었다].
        [기부한 까닭을|이유를] 묻자 {person} 씨는 “{kind_words}”고 [답했다|말했다|짧게 말했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        [이웃들은|동네 사람들은] {person} 씨를 [두고|가리켜] “{praise}”고 [입을 모은다|말한다].
        [기부금은|이 돈은] {families}가구의 {relief:과} {relief2:을} [사는|마련하는] 데 [쓰인다|쓰일 예정이다].
        {place.name} [지역|관내] {school_kind}에 다니는 학생 {pupils}명이 [장학금으로|학용품 값으로] [받는다|나눠 받는다].
        """
    ),
    two_sentences(
        """
        {person} 씨의 [딸|아들|조카] {person2} 씨도 {volunteer:을} [하며|맡아] [나눔을|봉사를] [이어 가고|실천하고] 있다.
        [앞서|지난해에도] {person} 씨는 {relief3:을} {families2}가구에 [전했다|보냈다|나눴다].
        {person} 씨는 [쉬는 날이면|주말마다] {volunteer:으로} [하루를 보낸다|바쁘다].
        """,
    ),
    sentence(
        """
        [주민센터|복지관] 관계자는 “{thanks}”고 [말했다|전했다].
        {place.name} [사회복지사|공무원] {person3} 씨는 “{thanks}”고 [고마워했다|인사했다].
        """
    ),
    two_sentences(
        """
        {institute}에 따르면 지난해 개인 기부는 {donors}만 명으로 {growth}% [줄었다|늘었다].
        [한편|이날] {company}도 {relief4} {boxes}상자를 [보내왔다|기부했다|전달했다].
        """,
        optional=True,
    ),
)

_SCHOOL = story(
    "교육",
    """
    {place.name} {school_kind}, {subject} 수업 확대
    {place.name} 학생 {pupils}명 {subject} 배운다
    {subject} 배우러 학교 가는 {place.name} 아이들
    """,
    sentence(
        """
        {place}의 {school_kind}에서 {subject} 수업이 [큰 인기를|관심을] [끌고|모으고] 있다.
        {place} {school_kind} 학생들이 {month}월부터 {subject} 수업을 [받는다|듣는다].
        {place} 교육지원청은 {school_kind} {schools}곳에서 {subject} 수업을 [시작했다|늘린다]고 {day}일 [밝혔다|전했다].
        """,
    ),
    sentence(
        """
        [수업은|교육은] 일주일에 {per_week}번, 한 반에 {per_class}명씩 [이뤄지며|진행되며] [교재와|재료와] {craft} 도구를 [무료로|나눠] 준다.
        [첫해에는|올해는] 학생 {pupils}명이 [참여하며|배우며] [교사|강사] {teachers}명이 [맡는다|가르친다].
        """
    ),
    two_sentences(
        """
        [아이들은|학생들은] {insect:과} {flower:을} [관찰하고|그리고] {craft:을} [만들며|배우며] [시간 가는 줄 모른다|눈을 반짝인다].
        [학생들은|아이들은] {mountain}에서 {bird} 소리를 [듣고|녹음하고] {tree} 잎을 [모으는|견주는] [숙제를|활동을] 한다.
        [급식에는|점심에는] {dish:과} {dish2} 등 [지역 음식이|전통 음식이] [나와|올라] [이야깃거리가|배움거리가] 된다.
        """
    ),
    sentence(
        """
        [3학년|4학년|5학년] {person} [양은|군은] “{pupil_says}”고 [말했다|했다].
        [수업을 들은|참가한] {person} 학생은 “{pupil_says}”며 [웃었다|즐거워했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        [담당 교사|수업을 맡은] {person2} [선생님은|교사는] “{teacher_says}”고 [설명했다|말했다|덧붙였다].
        [학부모|아이를 보낸] {person6} 씨({age})는 “{parent_says}”고 [말했다|했다].
        """
    ),
    sentence(
        """
        {institute:이} [학생|초등학생] {surveyed}명을 [조사한|설문한] 결과 {survey}%가 {subject} 수업을 [더 듣고 싶다고|늘려 달라고] [답했다|했다].
        [조사에서는|설문에서는] {survey}%가 [학교가 즐거워졌다고|친구가 늘었다고] 했고 {small_percent}%는 [어렵다고|힘들다고] 했다.
        """
    ),
    two_sentences(
        """
        [교육청은|교육지원청은] {year_to}년까지 {school_kind} {schools2}곳으로 [늘릴|넓힐] [계획이다|방침이다].
        교육부는 이 [수업에|사업에] {budget}억 원을 [지원한다|보탠다].
        [다만|그러나] [교사가|예산이] 모자라 {city} 등에서는 [수업을 미루고|시작하지 못하고] 있다.
        """
    ),
)

_ROAD = story(
    "교통",
    """
    {place.name} {road}서 {vehicle}·{vehicle2} 추돌…{injured}명 다쳐
    {road} {vehicle} 사고로 {minutes}분 정체
    {place.name} {road} {vehicle} 넘어져 {injured}명 부상
    """,
    sentence(
        """
        {day}일 [오전|오후] {clock}시 {minute}분쯤 {place} {road}에서 {vehicle:이} {vehicle2:을} 들이받았다.
        {place}의 {road}에서 {day}일 [아침|밤] {vehicle:과} {vehicle2:이} [부딪쳤다|충돌했다].
        """
    ),
    sentence(
        """
        이 사고로 [운전자|승객] {injured}명이 [다쳐|부상해] [인근|가까운] 병원에서 [치료를|수술을] [받고 있다|받았다].
        [다친|부상한] {injured}명은 [구급차로|헬기로] {city}의 병원에 [실려 갔다|옮겨졌다].
        """,
    ),
    two_sentences(
        """
        사고로 [길이|도로가] {minutes}분 동안 [막혀|통제돼] [출근길|귀성길|나들이길] 차들이 {km}㎞ [늘어섰다|밀렸다].
        {vehicle}에 [실려 있던|싣고 가던] {cargo} {boxes}상자가 [쏟아져|떨어져] [치우는|수습하는] 데 {minutes}분이 걸렸다.
        [경찰은|도로공사는] {minutes}분 동안 [한 차로를|두 차로를] [막고|통제하고] {cargo:을} [치웠다|걷어 냈다].
        """
    ),
    _NEIGHBOUR_SPEAKS,
    two_sentences(
        """
        경찰은 {road_cause:을} 사고 원인으로 [보고|추정하고] [블랙박스를|영상을] [분석하고|살펴보고] 있다.
        [운전자|사고를 낸 운전자] {person9} 씨({age2})는 경찰에서 “{driver_says}”고 [진술했다|말한 것으로 전해졌다].
        """
    ),
    _SAFETY_TALK,
    sentence(
        """
        {place.name} [당국은|지자체는] 이곳에 {safety_gear:을} [달기로|놓기로|설치하기로] 했다.
        [주민들은|운전자들은] {hack_year}년부터 {safety_gear:을} [요구해 왔다|설치해 달라고 했다].
        """,
        optional=True,
    ),
)

_TOWN = story(
    "지역",
    """
    {place.name}, {old_site} 자리에 {facility} 연다
    {old_site:이} {facility:으로}…{place.name}의 변신
    {place.name} {facility} {month}월 문 열어
    """,
    sentence(
        """
        {place}의 옛 {old_site:이} {facility:으로} [다시 태어난다|탈바꿈한다|바뀐다].
        {place} [지자체는|당국은] 쓰지 않는 {old_site:을} {facility:으로} [꾸며|고쳐] {month}월 [문을 연다|공개한다].
        {founded}년 [지은|들어선] {place}의 {old_site:이} {facility:으로} [바뀌었다|새 옷을 입었다].
        """,
    ),
    two_sentences(
        """
        [공사에는|사업에는] {budget}억 원이 [들었고|쓰였고] [지역|동네] 주민 {volunteers}명이 [설계부터|벽화에] [참여했다|손을 보탰다].
        {area}㎡ 터에 {facility2:과} {facility3:을} [더해|갖춰] 하루 {visitors}명이 [쓸|이용할] 수 있다.
        """
    ),
    two_sentences(
        """
        [마당에는|둘레에는] {tree} {trees}그루와 {flower:을} [심어|가꿔] [산책하기|쉬기] 좋다.
        [안에서는|건물 안에서는] {craft} 체험과 {hobby} [강좌가|모임이] [열린다|이어진다].
        [옥상에서는|언덕에서는] {mountain:과} {river:이} [한눈에 들어온다|내려다보인다].
        """
    ),
    sentence(
        """
        [주민|이 동네에서 나고 자란] {person} 씨({age})는 “{town_says}”고 [말했다|했다|반겼다].
        {hobby} 모임을 [이끄는|꾸리는] {person} 씨는 “{town_says}”며 [기뻐했다|웃었다].
        """,
        paragraph=True,
    ),
    sentence(
        """
        {place.name} [문화재단|도시재생센터] {person2} [팀장은|센터장은] “{town_plan}”고 [설명했다|밝혔다].
        {person2} {university} [건축학과|조경학과] 교수는 “{town_plan2}”고 [평가했다|말했다].
        """
    ),
    two_sentences(
        """
        [이용료는|입장료는] {item_price}원이며 [월요일은|설날은] [쉰다|문을 닫는다].
        {later}일에는 {troupe:이} [개관 공연을|축하 공연을] [펼친다|선보인다].
        [앞서|이에 앞서] {city}도 {old_site2:을} {facility4:으로} [고쳐|꾸며] 한 해 {visitors2}명이 [찾는다|다녀갔다].
        """
    ),
    sentence(
        """
        {place.name}에서는 {day_job:이} 줄며 [빈집이|빈 가게가] {empty}곳까지 [늘었다|생겼다].
        {institute:은} [이런|비슷한] 사업으로 [지역|마을] [방문객이|유동 인구가] {growth}% [늘었다|증가했다]고 [분석했다|밝혔다].
        """,
        optional=True,
    ),
)

_HEALTH = story(
    "건강",
    """
    {habit}, {disease} 위험 {ai_percent}% 낮춘다
    “{habit}, {disease} 막는다”…{surveyed}명 연구
    {disease} 걱정된다면…{habit} {ai_percent}% 효과
    """,
    sentence(
        """
        {habit:이} {disease}에 걸릴 위험을 {ai_percent}% [낮춘다는|줄인다는] 연구 결과가 [나왔다|발표됐다].
        {disease:을} [막으려면|예방하려면] {habit:이} [도움이 된다는|효과가 있다는] [조사|연구] 결과가 나왔다.
        """
    ),
    sentence(
        """
        {university} {person} 교수팀은 성인 {surveyed}명을 {years}년 동안 [추적한|관찰한] 결과를 {day}일 [발표했다|공개했다].
        {person} {university} 교수팀이 [40대|50대|60대] {surveyed}명을 [조사해|추적해] {day}일 [내놓은|발표한] 결과다.
        """,
    ),
    two_sentences(
        """
        {habit:을} 한 주에 {per_week}번 [넘게|이상] [꾸준히|빠짐없이] [한|지킨] 사람은 그렇지 않은 사람보다 {disease}에 걸릴 위험이 {ai_percent}% [낮았다|적었다].
        [특히|그중에서도] {disease2} 환자는 [수치가|약의 양이] {drop}% [줄었다|떨어졌다].
        [반대로|거꾸로] {bad_habit:을} [즐기는|하는] 사람은 {disease} 위험이 {growth}% [높았다|컸다].
        """
    ),
    sentence(
        """
        {person} 교수는 “{health_says}”며 “{health_tip}”고 [말했다|당부했다|조언했다].
        [연구를 이끈|논문을 쓴] {person} 교수는 “{health_tip}”고 [강조했다|덧붙였다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        {produce:과} {produce2}에 [많이 든|풍부한] {nutrient}도 [도움이|보탬이] 되는 것으로 [나타났다|알려졌다].
        [다만|그러나] {nutrient:을} [한꺼번에|약으로] 많이 [먹으면|섭취하면] [탈이 날|속이 쓰릴] 수 있다.
        {dish:과} {dish2:은} [국물을|소금을] [줄여|덜어] [먹는|조리하는] 것이 좋다.
        """
    ),
    two_sentences(
        """
        {institute}에 따르면 {disease} 환자는 지난해 {patients}명으로 {years_ago}년 전보다 {rise}% [늘었다|많아졌다].
        {disease} [진료비는|치료비는] 지난해 {sales_small}억 원으로 {rise2}% [불어났다|증가했다].
        """
    ),
    two_sentences(
        """
        {place} 보건소는 {later}일부터 {disease} [무료 검진을|상담을] [시작한다|벌인다].
        {ministry:은} {habit:을} [알리는|권하는] [책자를|영상을] 만들어 [보건소에|학교에] [보낼|나눠 줄] [계획이다|예정이다].
        """,
        optional=True,
    ),
)

SOCIETY = Section("사회", (_FIRE, _FRAUD, _DONATION, _SCHOOL, _ROAD, _TOWN, _HEALTH))
