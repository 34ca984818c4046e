"""Weather: rain, heat, snow, dust, typhoons, flowers and leaves, fog and drought."""

from semigpt.corpus.newsroom.grammar import Section, sentence, story, two_sentences

_FORECASTER = sentence(
    """
    기상청 {person} [예보관은|예보분석관은|통보관은] “{forecast_says}”고 [말했다|당부했다|설명했다].
    {person} 기상청 [예보관은|예보분석관은] “{forecast_says}”며 “{weather_tip}”고 [덧붙였다|강조했다].
    기상청 관계자는 “{weather_tip}”고 [당부했다|조언했다|말했다].
    """,
    paragraph=True,
)

_TEMPERATURES = sentence(
    """
    [아침|이튿날 아침] 최저기온은 {city} {temp_a}도, {city2} {temp_b}도, {city3} {temp_c}도로 [예상된다|예보됐다|전망된다].
    [지역별로는|곳에 따라] {city:이} {temp_a}도, {city2:이} {temp_b}도, {city3:이} {temp_c}도를 [기록하겠다|나타내겠다|가리키겠다].
    [같은 시각|내일 새벽] {city} 기온은 {temp_a}도, {city2:은} {temp_b}도까지 [바뀌겠다|움직이겠다].
    """,
)

_SEAS = two_sentences(
    """
    바다의 물결은 {sea}에서 {wave}m, {sea2}에서 {wave2}m까지 [일겠다|높아지겠다].
    {sea:과} {sea2}에는 [풍랑주의보|풍랑특보]가 [내려져|발효돼] [배편이|여객선이] {ships}척 [묶였다|멈췄다].
    {sea}의 물결이 {wave}m로 [높아|거칠어] {fish:을} [잡던|실은] 배들은 [서둘러 돌아왔다|항구에 머물렀다].
    """,
    optional=True,
)

_TOMORROW = sentence(
    """
    [이런|이 같은] 날씨는 {later}일까지 [이어지겠고|계속되겠고] 그 뒤 [차츰|서서히] {weather_turn}.
    {later}일부터는 {wind:이} 불며 [전국이|대부분 지역이] {weather_turn}.
    [주말인|휴일인] {later}일에는 {city4:을} 비롯한 [곳곳이|여러 지역이] {weather_turn}.
    """,
)

_VOICES = two_sentences(
    """
    {place}에서 {day_job:을} 하는 {person2} 씨({age})는 “{weather_voice}”고 [말했다|했다].
    {market}에서 만난 상인 {person6} 씨는 “{weather_voice2}”며 [하늘을 올려다봤다|걱정했다].
    {place} 주민 {person7} 씨({age2})는 {weather_gear:을} [챙기며|꺼내며] “{weather_voice3}”고 [말했다|했다].
    """,
    optional=True,
)

_RAIN = story(
    "비",
    """
    {city5} 등 전국에 비…최고 {rain_mm}㎜
    우산 챙기세요…{city5} {rain_word} {rain_mm}㎜
    오늘 날씨, {rain_word} 최고 {rain_mm}㎜
    """,
    sentence(
        """
        {day}일은 전국이 흐린 가운데 {city5} 등에 {rain_word:이} 최고 {rain_mm}㎜ [내리겠다|쏟아지겠다|오겠다].
        {day}일 [새벽|아침|오후]부터 {city5:을} 중심으로 {rain_word:이} {rain_mm}㎜까지 [내릴|올] 것으로 [보인다|예보됐다].
        """
    ),
    sentence(
        """
        [비는|빗줄기는] {city6:과} {mountain} [부근에서|일대에서] [가장 굵겠고|특히 세차겠고] 시간당 {rain_hour}㎜ 안팎이 [쏟아지겠다|퍼붓겠다].
        {mountain} [자락에는|기슭에는] 시간당 {rain_hour}㎜의 [장대비가|소낙비가] [내리면서|퍼부으면서] [천둥과 번개가 치는|돌풍이 부는] 곳이 있겠다.
        """
    ),
    two_sentences(
        """
        {river:은} 물이 {meters}m까지 [불어|차올라] {clock}시를 기해 [산책로가|둔치가] [통제됐다|막혔다].
        {place} 도로에서는 {tree:이} [쓰러져|뽑혀] [차들이|주민들이] {minutes}분 동안 [발이 묶였다|돌아가야 했다].
        {place}에서는 {building} {flooded}곳이 물에 [잠겨|차] 소방대원 {firefighters}명이 [물을 퍼냈다|밤새 움직였다].
        """,
    ),
    _FORECASTER,
    _TEMPERATURES,
    _SEAS,
    _VOICES,
    _TOMORROW,
    months=(4, 5, 6, 9, 10),
)

_HEAT = story(
    "더위",
    """
    {place.name} {hot}도…올여름 가장 더웠다
    펄펄 끓는 {place.name} {hot}도
    {place.name} {hot}도 찍었다…폭염 절정
    """,
    sentence(
        """
        {day}일 {place}의 [낮 최고기온이|수은주가] {hot}도까지 [올라|치솟아] 올여름 들어 가장 [더웠다|뜨거웠다].
        {place}의 기온이 {day}일 {hot}도를 [기록하며|찍으며] [폭염경보가|폭염특보가] [이어졌다|내려졌다].
        """
    ),
    two_sentences(
        """
        [올여름|지금까지] 온열질환자는 {heat_sick}명으로 지난해 같은 때보다 {growth}% [많다|늘었다].
        {day_job:을} 하던 {heat_sick2}명이 [어지럼증으로|더위를 먹어] [응급실을|병원을] [찾았다|다녀갔다].
        """
    ),
    two_sentences(
        """
        [도심에서는|거리에서는] {weather_gear:과} {cool_food:을} [사는|찾는] 손님이 {rise}% [늘었다|많아졌다].
        {river}에는 {visitors}명이 [몰려|나와] [물에 발을 담그고|돗자리를 펴고] {cool_food:을} [먹었다|즐겼다].
        [가축|농장] 피해도 잇따라 {livestock} {dead}마리가 [폐사했다|죽었다].
        """,
    ),
    _FORECASTER,
    two_sentences(
        """
        {place.name} [당국은|지자체는] 무더위 쉼터 {sites}곳에 {cool_food:과} {weather_gear:을} [두기로|갖춰 두기로] 했다.
        [밤에도|해가 진 뒤에도] {city5:은} {night_hot}도 아래로 내려가지 않아 {nights}일째 열대야를 [겪었다|보였다].
        """
    ),
    _VOICES,
    _TOMORROW,
    months=(6, 7, 8),
)

_SNOW = story(
    "눈",
    """
    {place.name} {snow}㎝ 폭설…{cold}도 강추위
    {place.name}에 {snow}㎝ 눈…출근길 혼잡
    영하 {cold}도 {place.name}, 눈까지 {snow}㎝
    """,
    sentence(
        """
        {day}일 {place}에 {snow}㎝의 눈이 쌓이고 기온이 영하 {cold}도까지 [떨어졌다|내려갔다].
        영하 {cold}도의 [강추위|매서운 추위] 속에 {day}일 {place}에는 {snow}㎝의 [눈이|함박눈이] [쌓였다|내렸다].
        """
    ),
    two_sentences(
        """
        {place.name} [일대|인근] 도로 {flooded}곳이 [얼어붙어|눈에 덮여] {vehicle} 등 {crash_cars}대가 [미끄러졌다|부딪쳤다].
        {mountain} 등산로 {trails}곳이 [막히고|통제되고] [하늘길|뱃길]도 [끊겨|멈춰] {stranded}명이 [발을 굴렀다|기다려야 했다].
        """
    ),
    two_sentences(
        """
        [계량기|수도관] {frozen}개가 [터지고|얼고] {produce:을} 기르는 비닐하우스 {greenhouses}동이 [무너졌다|내려앉았다].
        {place.name} [당국은|지자체는] {trucks}대의 제설차로 염화칼슘 {tons}톤을 [뿌렸다|썼다].
        [농가에서는|마을에서는] {livestock:과} {produce:을} [지키려고|살피느라] [밤새|새벽까지] [불을 지폈다|덮개를 씌웠다].
        """
    ),
    _FORECASTER,
    _SEAS,
    two_sentences(
        """
        [추위에|찬 바람에] 시민들은 {winter_gear:과} {winter_gear2:을} [두르고|챙기고] 종종걸음을 [쳤다|했다].
        {market}에는 {hot_snack:과} {hot_snack2:을} 파는 [가게마다|수레마다] [김이 피어올랐다|줄이 늘어섰다].
        """
    ),
    _VOICES,
    _TOMORROW,
    months=(12, 1, 2),
)

_DUST = story(
    "먼지",
    """
    {place.name} 미세먼지 ‘매우 나쁨’…{dust}㎍
    {dust_from}발 먼지 덮친 {place.name}…{dust}㎍
    {place.name} 하늘 뿌옇다…미세먼지 {dust}㎍
    """,
    sentence(
        """
        {day}일 {place}의 미세먼지 농도가 ㎥당 {dust}㎍까지 올라 {dust_from}에서 [날아온|건너온] 먼지가 하늘을 [덮었다|가렸다].
        {dust_from}에서 온 먼지로 {day}일 {place}의 미세먼지 농도가 ㎥당 {dust}㎍을 [기록했다|나타냈다].
        """
    ),
    two_sentences(
        """
        [평소|지난해 이맘때]보다 {times}배 [짙은|높은] 수치로, {mountain:과} {river}도 [뿌연|누런] [장막에|먼지에] [가려졌다|갇혔다].
        {city5:과} {city6}도 [각각|잇따라] {dust2}㎍, {dust3}㎍으로 [나쁨|매우 나쁨] [수준이었다|단계였다].
        """,
    ),
    two_sentences(
        """
        {university} {person3} [호흡기내과|알레르기내과] 교수는 “{dust_tip}”고 [조언했다|당부했다].
        {disease} 환자는 [바깥 활동을|외출을] 줄이고 {nutrient:을} [넉넉히|고루] [먹는|섭취하는] 것이 좋다.
        """,
    ),
    _FORECASTER,
    _TEMPERATURES,
    two_sentences(
        """
        {place.name} [당국은|지자체는] 공사장 {sites}곳의 [작업|가동] 시간을 줄이고 물청소차 {trucks}대를 [돌렸다|내보냈다].
        {school_kind} {schools}곳은 {sport_hobby} 등 [운동장 수업을|야외 수업을] {subject} 수업으로 [바꿨다|돌렸다].
        {institute:은} 먼지의 {survey}%가 {dust_from}에서 [왔다고|비롯됐다고] [분석했다|추정했다].
        """,
    ),
    _VOICES,
    _TOMORROW,
    months=(3, 4, 5, 10, 11),
)

_TYPHOON = story(
    "태풍",
    """
    태풍 {typhoon}, 초속 {gust}m 강풍 몰고 온다
    태풍 {typhoon} 북상…순간풍속 초속 {gust}m
    북상하는 태풍 {typhoon}…{sea} 비상
    """,
    sentence(
        """
        초속 {gust}m의 [강풍을|바람을] 동반한 태풍 {typhoon:이} {day}일 {sea}에 [다다를|이를] 것으로 [예상된다|보인다].
        태풍 {typhoon:이} {day}일 [현재|오전] {sea}에서 초속 {gust}m의 [바람을 일으키며|세력을 지키며] [북상하고 있다|다가오고 있다].
        """
    ),
    two_sentences(
        """
        중심기압은 {pressure}h㎩이고 강풍이 부는 반경은 {typhoon_km}㎞에 [이른다|달한다].
        [태풍은|이 태풍은] 시속 {typhoon_speed}㎞로 [움직여|올라와] {clock}시쯤 {place} [부근에|인근에] [가장 가까워진다|닿는다].
        """,
    ),
    two_sentences(
        """
        {port}에는 배 {ships_many}척이 [닻을 내렸고|피했고] {island} 주민 {evacuees}명은 [마을회관으로|학교로] [옮겼다|대피했다].
        {place}에서는 간판이 [떨어지고|날아가고] {tree} {trees_down}그루가 [쓰러져|꺾여] {homes_dark}가구의 전기가 [끊겼다|나갔다].
        """,
    ),
    _FORECASTER,
    sentence(
        """
        [어민|양식업자] {person2} 씨({age})는 “{storm_voice}”고 [말했다|했다].
        {fish:을} 기르는 {person2} 씨는 “{storm_voice}”며 [밧줄을|그물을] [고쳐 맸다|거듭 살폈다].
        {produce:을} 키우는 {person2} 씨는 “{storm_voice}”며 [지지대를|물길을] [손봤다|살폈다].
        """,
    ),
    sentence(
        """
        [이름인|태풍 이름] {typhoon:은} {typhoon.meaning:을} [가리키는|뜻하는] 말이다.
        """,
        optional=True,
    ),
    two_sentences(
        """
        {ministry:은} 비상 근무 인원을 {firefighters2}명으로 [늘리고|채우고] {safety_rule:을} [살피라고|점검하라고] [지시했다|주문했다].
        [지자체들은|지방자치단체들은] {safety_gear:과} {relief:을} [점검하고|챙기고] 주민 {evacuees2}명을 [대피시킬|옮길] [준비를 마쳤다|채비를 했다].
        """
    ),
    _TOMORROW,
    months=(7, 8, 9),
)

_SEASON = story(
    "계절",
    """
    {flower} 활짝 핀 {place.name}…나들이객 {visitors}명
    {place.name} {flower} 절정
    “{flower} 보러 오세요” {place.name}에 {visitors}명
    """,
    sentence(
        """
        {place}에 {flower:이} [활짝 피어|흐드러져] {day}일 하루에만 나들이객 {visitors}명이 [찾았다|다녀갔다].
        {flower:이} [절정을 이룬|만개한] {place}에 {day}일 나들이객 {visitors}명이 [몰렸다|발길을 했다].
        """
    ),
    sentence(
        """
        기상청은 올해 {flower:이} [평년|지난해]보다 {days_early}일 [일찍|늦게] [피었다|꽃망울을 터뜨렸다]고 [밝혔다|설명했다].
        [포근한|따뜻한] 날씨 덕에 {flower:이} [평년|지난해]보다 {days_early}일 [일찍|먼저] [피었다|고개를 내밀었다].
        """
    ),
    two_sentences(
        """
        {tree} 사이로 {bird:이} [날고|지저귀고] {river} 가에는 {flower2:과} {flower3:이} [고개를 내밀었다|어우러졌다].
        [꽃길|숲길] {km}㎞를 [걷던|거닐던] 이들은 {bird} 소리에 [귀를 기울였다|걸음을 멈췄다].
        [풀숲에서는|물가에서는] {insect:과} {insect2:이} [모습을 드러내|움직여] [아이들의|나들이객의] [눈길을|발길을] 붙들었다.
        """
    ),
    sentence(
        """
        {city}에서 온 {person2} 씨({age})는 “{festival_says}”고 [말했다|했다|웃었다].
        [연인과|부모님과] 함께 온 {person2} 씨는 “{festival_says}”며 [사진을 찍었다|환하게 웃었다].
        """,
        paragraph=True,
    ),
    _FORECASTER,
    _TEMPERATURES,
    two_sentences(
        """
        {mountain}에는 {later}일쯤 {flower4:이} [피겠고|한창이겠고] {mountain2:은} 그보다 {days_early2}일 [늦겠다|빠르겠다].
        {place.name} [당국은|지자체는] {later}일까지 {hot_snack:과} {dish:을} [파는|내는] 장터를 [연다|꾸린다].
        """
    ),
    _TOMORROW,
    months=(3, 4, 5),
)

_DROUGHT = story(
    "가뭄",
    """
    {place.name} {days_dry}일째 가뭄…{produce} 시든다
    타들어 가는 {place.name}…저수율 {reservoir}%
    {place.name} 저수율 {reservoir}%…농민 한숨
    """,
    sentence(
        """
        {place} 저수지의 저수율이 {reservoir}%까지 [떨어져|내려가] {produce} 농가가 [애를 태우고|시름에 잠겨] 있다.
        [비가|제대로 된 비가] 오지 않아 {place}의 저수율이 {reservoir}%로 [줄자|떨어지자] {produce} 밭이 [말라붙었다|갈라졌다].
        """
    ),
    two_sentences(
        """
        {place.name}의 [최근|지난] 석 달 강수량은 {rain_low}㎜로 평년의 {small_percent}%에 [그친다|머문다].
        {place.name}에는 {days_dry}일째 [비다운 비가|한 방울도] [오지|내리지] 않았다.
        """
    ),
    two_sentences(
        """
        {river}에서는 {river_fish:과} {river_fish2:이} [떼로 죽어|물 밖으로 드러나] [떠올랐다|주민들이 옮겼다].
        [모내기를|파종을] 못 한 논이 {paddies}㏊에 [이르고|달하고] {insect} 떼까지 [번져|늘어] {produce2} [잎을|줄기를] [갉아 먹고|망치고] 있다.
        """
    ),
    _VOICES,
    _FORECASTER,
    two_sentences(
        """
        {place.name} [당국은|지자체는] 급수차 {trucks}대로 {island} 등에 물 {tons}톤을 [날랐다|보냈다].
        {company:은} 생수 {boxes}상자를 [보냈고|내놓았고] {city} 주민들도 {relief:을} [보탰다|실어 보냈다].
        [군과|소방서와] [공무원|봉사자] {volunteers}명이 [양수기|물탱크] {pumps}대를 [돌렸다|끌어왔다].
        """
    ),
    _TOMORROW,
    months=(4, 5, 6, 10, 11),
)

WEATHER = Section("날씨", (_RAIN, _HEAT, _SNOW, _DUST, _TYPHOON, _SEASON, _DROUGHT))
