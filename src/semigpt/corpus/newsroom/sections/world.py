"""World: summits, elections, earthquakes, strikes, space, animals in the news."""

from semigpt.corpus.newsroom.grammar import Section, sentence, story, two_sentences

_OBSERVER = two_sentences(
    """
    {abroad}의 한 [신문은|일간지는] “{world_view}”고 [보도했다|전했다|논평했다].
    {university} {person} [국제학부|정치외교학과] 교수는 “{world_view2}”고 [분석했다|내다봤다|말했다].
    {institute} {person4} [연구위원은|선임연구원은] “{world_view3}”고 [진단했다|평가했다].
    """,
    paragraph=True,
)

_SEOUL = two_sentences(
    """
    [외교부는|우리 정부는] [현지|그곳]에 [머무는|사는] 교민 {koreans}명에게 {world_advice:을} [당부했다|안내했다].
    [외교부|정부] 당국자는 “{seoul_says}”고 [말했다|밝혔다].
    [우리|한국] 기업 {sites}곳이 진출해 있어 {ministry:은} {market_factor:을} [살피고|따지고] 있다.
    {company:은} {goods} [공급에|수출에] [차질이|영향이] 없는지 [확인하고|점검하고] 있다.
    """,
    optional=True,
)

_SUMMIT = story(
    "정상회담",
    """
    {country}·{country2} 정상 {abroad}서 회담…{agenda} 논의
    {country:과} {country2}, {agenda} 놓고 머리 맞대
    {abroad}서 만난 {country}·{country2} 정상
    """,
    sentence(
        """
        {country:과} {country2} 정상이 {day}일(현지시간) {abroad}에서 만나 {agenda:을} [논의했다|협의했다|다뤘다].
        {day}일(현지시간) {abroad}에서 열린 {country:과} {country2}의 정상회담에서 {agenda:이} [의제로|탁자에] 올랐다.
        """
    ),
    two_sentences(
        """
        두 정상은 {hours}시간 {minute}분 동안 [통역만 두고|배석자 없이] [이야기를 나눴으며|마주 앉았으며] {agenda2}에도 [뜻을 모았다|합의했다].
        {foreigner} {country} [대통령은|총리는] “{leader_says}”고 [말했다|강조했다].
        """
    ),
    two_sentences(
        """
        {foreigner2} {country2} [총리는|대통령은] “{leader_says2}”며 [손을 내밀었다|화답했다].
        {country2} 측은 {goods} 수입을 {growth}% [늘리고|확대하고] {branches}개 [분야에서|사업에서] [협력하기로|힘을 합치기로] 했다.
        """
    ),
    two_sentences(
        """
        [회담 뒤|만찬에서는] [두 정상은|양측은] {dish_world:과} {dish_world2:을} [들며|나누며] {instrument} 연주를 [들었다|감상했다].
        [회담장|거리] 밖에서는 시민 {protesters}명이 {agenda3:을} [요구하며|외치며] [행진했다|촛불을 들었다].
        [선물로는|기념으로] {craft} 작품과 {gift:을} [주고받았다|맞바꿨다].
        """
    ),
    _OBSERVER,
    _SEOUL,
    two_sentences(
        """
        두 나라는 오는 {later}일 {abroad2}에서 [실무 회의를|장관급 회의를] [열기로|이어 가기로] 했다.
        [다음 회담은|후속 회담은] {year_to}년 {country2.capital}에서 [열린다|열릴 예정이다].
        {country.capital:으로} [돌아간|돌아온] 대표단은 {later}일 [합의문을|결과를] [공개한다|의회에 낸다].
        """
    ),
)

_ELECTION = story(
    "선거",
    """
    {country} 총선서 {party} 승리…{foreigner} 총리 유력
    {country} {party} 총선 승리 선언
    {foreigner:이} 이끄는 {party}, {country} 총선 승리
    """,
    sentence(
        """
        {day}일(현지시간) 치러진 {country} 총선에서 {foreigner} 대표가 이끄는 {party:이} [이겼다|승리했다|앞섰다].
        {country} {party:이} {day}일(현지시간) 총선에서 [승리하며|1위에 오르며] {foreigner} 대표가 [총리에 오르게|새 정부를 꾸리게] 됐다.
        """
    ),
    sentence(
        """
        {party:은} {survey}%를 [얻어|득표해] {seats}석을 [차지했고|확보했고] {party2:은} {small_percent}%에 [그쳤다|머물렀다].
        개표 결과 {party:은} {seats}석, {party2:은} {seats2}석을 [얻었다|가져갔다].
        """
    ),
    two_sentences(
        """
        [유권자들은|표심은] {agenda:과} {agenda2:을} [둘러싼|놓고 벌인] 논쟁에 [반응했다|갈렸다].
        투표율은 {accuracy}%로 {hack_year}년 [선거보다|총선보다] [높았다|올랐다].
        [선거 기간|선거 내내] {agenda:이} [최대|가장 큰] 쟁점이었다.
        """
    ),
    sentence(
        """
        {foreigner} 대표는 {country.capital} 당사에서 “{leader_says}”고 [외쳤다|말했다].
        [지지자|당원] {protesters}명 앞에 선 {foreigner} 대표는 “{leader_says}”며 “{leader_hope}”고 [약속했다|말했다].
        """,
        paragraph=True,
    ),
    sentence(
        """
        {party2}의 {foreigner2} 대표는 [결과를 받아들인다며|패배를 인정하고] [물러날|사퇴할] 뜻을 밝혔다.
        {foreigner2} 전 총리는 [재검표를|투표함 보전을] [요구했다|신청했다].
        """
    ),
    _OBSERVER,
    _SEOUL,
    two_sentences(
        """
        {foreigner} 대표는 {age}세로, {world_job} 출신이며 {abroad}에서 [공부했다|학위를 받았다].
        새 정부는 {later}일 [출범한다|첫 회의를 연다].
        {foreigner} 대표는 {country2:과} {country3:을} [먼저|차례로] [찾을|방문할] [계획이다|예정이다].
        """,
    ),
)

_QUAKE = story(
    "지진",
    """
    규모 {magnitude} 지진 덮친 {country}
    {country} 규모 {magnitude} 강진에 건물 와르르
    {country} 강진…규모 {magnitude}
    """,
    sentence(
        """
        {country}에서 {day}일(현지시간) [새벽|오전|오후] {clock}시 {minute}분께 규모 {magnitude}의 지진이 [났다|일어났다|발생했다].
        {day}일(현지시간) {country} {world_region} [지역을|일대를] 규모 {magnitude}의 지진이 [덮쳤다|강타했다|흔들었다].
        """
    ),
    two_sentences(
        """
        진앙은 {country.capital}에서 {quake_km}㎞ 떨어진 곳이며 진원의 깊이는 {quake_depth}㎞다.
        [이 지진으로|이번 지진으로] {dead_many}명이 숨지고 {injured_many}명이 [다쳤다|부상했다].
        """
    ),
    two_sentences(
        """
        {building:과} {building2} 등 건물 {collapsed}채가 [무너져|내려앉아] [사람들이|주민들이] [흙더미에|잔해에] [갇혔다|깔렸다].
        [산사태로|여진으로] {road_world:이} 끊겨 {relief:과} {relief2:을} [나르는|보내는] 데 [애를 먹고|어려움을 겪고] 있다.
        여진이 {aftershocks}차례 [이어져|뒤따라] 주민들은 [광장에서|공터에서] {relief3:을} [나누며|받아 들고] 밤을 [지새웠다|보냈다].
        """,
    ),
    sentence(
        """
        {world_job} {foreigner} 씨는 [현지 방송에|전화 통화에서] “{quake_says}”고 [말했다|전했다].
        [살아남은|구조된] {foreigner} 씨({age})는 “{quake_says}”며 [울먹였다|떨리는 목소리로 말했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        {country2:과} {country3:은} 구조대 {firefighters}명과 {relief4:을} [보냈다|급파했다].
        [구조대는|구조견과 대원들은] {hours_keep}시간 만에 {age_child}세 어린이를 [구해|꺼내] [박수를 받았다|희망을 안겼다].
        국제기구는 {budget}억 원을 [긴급 지원하기로|모으기로] 했다.
        """,
    ),
    _SEOUL,
    two_sentences(
        """
        {institute}에 따르면 이 지역에서는 {hack_year}년에도 규모 {magnitude2}의 지진이 [있었다|났다].
        {person2} {university} [지질학과|지구과학과] 교수는 “{quake_tip}”고 [경고했다|설명했다].
        """
    ),
)

_STRIKE = story(
    "파업",
    """
    {country} {world_job} 파업에 시민 불편
    거리로 나온 {country} {world_job}들
    멈춰 선 {country}…{world_job} 파업
    """,
    sentence(
        """
        {country} {world_job:이} 임금을 올려 달라며 {day}일(현지시간) [파업에 들어갔다|일손을 놓았다].
        {day}일(현지시간) {country} {world_job} 노동조합이 [전국 파업을|무기한 파업을] [시작했다|선언했다].
        """
    ),
    two_sentences(
        """
        노조는 임금을 {small_percent}% [올리고|인상하고] {labor_demand:을} [들어 달라고|받아들이라고] [요구하고|주장하고] 있다.
        {strikers}명이 {country.capital} [광장에|중심가에] 모여 {labor_demand:을} [외쳤다|촉구했다].
        """
    ),
    sentence(
        """
        [파업으로|이번 파업으로] {public_service:이} [멈춰|끊겨] 시민 {stranded}명이 [불편을 겪었다|발이 묶였다].
        {public_service:과} {public_service2:이} [절반으로|크게] 줄어 [상점들은|시장은] 문을 [닫았다|열지 못했다].
        """
    ),
    sentence(
        """
        노조 [위원장인|대표인] {foreigner} 씨는 “{union_says}”고 [말했다|목소리를 높였다].
        {age}세 {world_job} {foreigner} 씨는 “{union_says}”며 [팻말을|깃발을] [들었다|흔들었다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        이에 대해 {foreigner2} {country} [총리는|노동장관은] “{leader_says}”고 [말했다|맞섰다].
        [정부는|당국은] 물가가 {rise}% [오른|뛴] 점을 들어 {labor_demand2:을} [검토하겠다고|논의하겠다고] [밝혔다|한발 물러섰다].
        """
    ),
    _OBSERVER,
    _SEOUL,
    two_sentences(
        """
        노사는 {later}일 [협상을|대화를] 이어 가기로 했다.
        {country2}에서도 {later}일 {world_job2:이} [파업을|집회를] [예고했다|준비하고 있다].
        {hack_year}년 파업은 {days_long}일 만에 [끝났다|막을 내렸다].
        """,
    ),
)

_SPACE = story(
    "우주",
    """
    {country} 탐사선 {spacecraft}, {planet} 향해 날았다
    {country} {spacecraft} 발사 성공
    {planet} 가는 {country} {spacecraft}
    """,
    sentence(
        """
        {country:이} {planet:을} [살필|조사할] 탐사선 {spacecraft:을} {day}일(현지시간) [쏘아 올렸다|발사했다].
        {country}의 {planet} 탐사선 {spacecraft:이} {day}일(현지시간) [우주로 떠났다|하늘로 솟아올랐다].
        """
    ),
    two_sentences(
        """
        {spacecraft:은} 길이 {meters}m, 무게 {craft_kg}㎏으로 {science_gear:과} {science_gear2:을} [실었다|갖췄다].
        발사 {minutes}분 뒤 로켓에서 [떨어져 나온|분리된] {spacecraft:은} [지상과|관제실과] [교신하는|연락하는] 데 성공했다.
        """
    ),
    two_sentences(
        """
        {spacecraft:은} {months}달을 날아 {planet}에 [닿은|이른] 뒤 {science_aim3:을} [찾는다|살핀다|조사한다].
        [임무는|목표는] {planet}에서 {science_aim:과} {science_aim2:을} [찾는|밝히는] 것이다.
        """
    ),
    sentence(
        """
        {foreigner} [책임자는|총괄 박사는] “{space_says}”고 [말했다|기뻐했다].
        [발사를|개발을] 이끈 {foreigner} 박사는 “{space_says}”며 [눈물을 글썽였다|동료들과 얼싸안았다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        [개발에는|이 계획에는] {country2:과} {country3} 등 {branches}개 나라가 [참여해|힘을 모아] {investment}억 원을 [들였다|썼다].
        [앞서|그동안] {country:은} {hack_year}년 {fault_space} 때문에 [실패한|발사를 미룬] 적이 있다.
        """
    ),
    two_sentences(
        """
        [국내에서는|한국에서는] {university:과} {institute:이} {science_gear3:을} [만들어|개발해] [보탰다|실었다].
        {startup:은} {spacecraft}에 들어간 {tech:을} [공급했다|맡았다].
        """
    ),
    _OBSERVER,
    two_sentences(
        """
        {country:은} {year_to}년 사람을 {planet2}에 [보낼|내려놓을] [계획이다|꿈을 꾸고 있다].
        첫 사진은 {later}일쯤 {country.capital:으로} [보내올|전송될] 것으로 [보인다|기대된다].
        """
    ),
)

_ANIMAL = story(
    "지구촌",
    """
    {abroad} 도심에 {animal} 출몰…한바탕 소동
    {abroad} 거리 누빈 {animal}
    {abroad} 시민들 “{animal:이} 왜 여기에”
    """,
    sentence(
        """
        {day}일(현지시간) {abroad}에서 {animal:이} {building}에 [들어가|뛰어들어] [시민들이 놀랐다|경찰이 나섰다].
        {abroad}의 한 {building}에 {animal:이} {day}일(현지시간) [모습을 드러냈다|나타나 눈길을 끌었다].
        """,
    ),
    sentence(
        """
        {animal:은} {food_stand:을} [먹어 치우고|물고] {hours}시간 동안 [돌아다니다|버티다] [붙잡혔다|숲으로 돌아갔다].
        [출동한|달려온] 경찰 {police_few}명은 {food_stand:으로} [꾀어|달래] {hours}시간 만에 {animal:을} [잡았다|내보냈다].
        """
    ),
    two_sentences(
        """
        [무게|몸무게] {kilos}㎏인 이 {animal:은} [동물원|농장|서커스단]에서 [달아난|나온] 것으로 [알려졌다|드러났다].
        [이 장면을|이 모습을] 찍은 영상은 하루 만에 {views}만 번 [재생됐다|조회됐다].
        """
    ),
    sentence(
        """
        [목격자|가게 주인] {foreigner} 씨({age})는 “{animal_says}”고 [말했다|웃었다].
        {world_job} {foreigner} 씨는 “{animal_says}”며 [어깨를 으쓱했다|고개를 갸웃했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        [동물학자|생태학자] {foreigner2} 박사는 “{animal_why}”고 [설명했다|말했다].
        [전문가들은|현지 당국은] {world_region} [지역의|일대의] [숲이|먹이가] {growth}% [줄어든|사라진] 탓으로 [본다|풀이했다].
        """
    ),
    sentence(
        """
        {country} {country.capital}에서도 {month}월 {animal2:이} {building2}에 [들어온|나타난] 적이 있다.
        [비슷한 일은|이런 일은] {country}에서도 있어 {animal2:이} {public_service:을} [멈춰 세우기도|늦추기도] 했다.
        """
    ),
    two_sentences(
        """
        [시민들은|누리꾼들은] {animal}에게 {pet_name:이라는} 이름을 [붙이고|지어 주고] {gift:을} [선물했다|보냈다].
        {animal:은} {later}일 [보호소로|고향 숲으로] [옮겨진다|돌아간다].
        """
    ),
    sentence(
        """
        {abroad} 당국은 {safety_gear:을} [늘리고|달고] [주민들에게|시민들에게] {world_advice:을} [당부했다|알렸다].
        {company:이} 만든 {gadget:이} {animal:을} [찾는|쫓는] 데 [쓰여|한몫해] [화제가 됐다|관심을 모았다].
        """,
        optional=True,
    ),
)

WORLD = Section("세계", (_SUMMIT, _ELECTION, _QUAKE, _STRIKE, _SPACE, _ANIMAL))
