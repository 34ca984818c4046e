"""Technology: devices, artificial intelligence, security, games, laboratories, investment."""

from semigpt.corpus.newsroom.grammar import Section, sentence, story, two_sentences

_STARTUP_SPEAKS = sentence(
    """
    {startup} {person} {tech_post:은} “{tech_view}”라며 “{tech_promise}”고 [말했다|밝혔다|강조했다].
    {person} {startup} {tech_post:은} [발표회|간담회|온라인 행사]에서 “{tech_promise}”고 [설명했다|소개했다|약속했다].
    개발을 이끈 {person} {tech_post:은} “{tech_view}”라고 [말했다|돌아봤다|전했다].
    {startup} {tech_post:을} 맡은 {person} 씨는 “{tech_promise}”라면서 “{tech_view}”라고 했다.
    """,
    paragraph=True,
)

_TECH_OUTLOOK = two_sentences(
    """
    {institute:은} [국내|세계] {tech} 시장이 {year_to}년 {market_size}조 원까지 [커질|성장할] 것으로 [내다봤다|전망했다|예측했다].
    {broker}에 따르면 {tech} 시장은 해마다 {growth}%씩 [자라고|커지고|성장하고] 있다.
    [업계에서는|전문가들은] {tech:과} {tech2:이} [결합하면|만나면] [쓰임새가|활용 범위가] 더 [넓어질 것으로 본다|늘어날 것으로 내다본다].
    {university} {person3} 교수는 “{tech} 분야에서는 {tech_issue:이} 가장 중요하다”고 [짚었다|지적했다|말했다].
    다만 {tech_issue:을} [풀지 못하면|해결하지 못하면] [확산이|보급이] 늦어질 수 있다는 [지적|우려]도 나온다.
    """,
)

_TECH_BACKGROUND = two_sentences(
    """
    {startup:은} {founded_it}년 {university} 출신 연구자 {founders}명이 [세운|만든] 회사로 직원은 {staff}명이다.
    {founded_it}년 [문을 연|설립된] {startup:은} 지금까지 {funding}억 원의 투자를 [받았다|유치했다].
    {startup:은} {district}에 본사를 두고 있으며 {abroad}에도 [사무소를|연구소를] [열었다|운영하고 있다].
    앞서 {startup:은} {past}일 {country}의 한 [통신사와|제조사와|병원과] {tech2} [협력에|공급에] [합의했다|나서기로 했다].
    """,
    optional=True,
    paragraph=True,
)

_LAUNCH = story(
    "신제품",
    """
    {startup}, {gadget} 공개…{gadget_price}만 원대
    {startup}, {tech} 담은 {gadget} 출시
    {gadget:이} {tech:을} 만났다…{startup} 신제품
    """,
    sentence(
        """
        {startup:이} {tech:을} [적용한|담은|얹은] {gadget:을} {day}일 [공개했다|선보였다|내놓았다].
        {startup:은} {day}일 {district}에서 발표회를 열고 {tech} 기반 {gadget:을} [소개했다|처음 선보였다].
        {tech} [기능을|기술을] 갖춘 {gadget:이} {startup}에서 [나왔다|출시됐다].
        """
    ),
    two_sentences(
        """
        [무게는|제품 무게는] {grams}g, [두께는|가장 두꺼운 곳은] {thick}㎜로 [이전 제품|지난해 모델]보다 {share}% [가볍다|줄었다].
        한 번 충전하면 {battery_hours}시간을 [쓸 수 있고|버티고] {feature:을} [지원한다|할 수 있다].
        {feature:과} {feature2:을} [기본으로|모두] [지원하며|제공하며] 저장 용량은 {storage}GB다.
        """
    ),
    sentence(
        """
        [값은|가격은] {gadget_price}만 원이고 [색상은|색깔은] {color:과} {color2} [두 가지다|둘 가운데 고를 수 있다].
        사전 예약은 {later}일까지 [받으며|진행하며] [예약한|먼저 산] 고객에게는 {gift:을} [준다|증정한다].
        {color:과} {color2:으로} 나오며 [가격은|값은] {gadget_price}만 원으로 [정해졌다|책정됐다].
        """
    ),
    two_sentences(
        """
        [화면 밝기는|처리 속도는|응답 속도는] [이전 모델|지난 제품]보다 {growth}% [나아졌고|좋아졌고] [소비 전력은|발열은] {drop}% [줄었다|낮아졌다].
        {material:을} [써서|사용해] [떨어뜨려도|물에 젖어도] [고장이 적고|잘 견디며] {temp_low}도의 추위에서도 [작동한다|쓸 수 있다].
        [회사 측은|개발진은] {feature2:이} [어르신|청소년|장애인]에게도 [쓸모 있도록|편하도록] [글자와 소리를|화면을] [다듬었다고|손봤다고] [설명했다|밝혔다].
        """,
        optional=True,
    ),
    _STARTUP_SPEAKS,
    _TECH_BACKGROUND,
    sentence(
        """
        [제품은|신제품은] [국내에|한국에] 먼저 나온 뒤 [다음 달|석 달 뒤] {country:과} {country2}에서도 [판매된다|팔린다].
        {startup:은} 올해 {gadget} {units}대를 [파는 것을|판매하는 것을] 목표로 [잡았다|세웠다].
        """
    ),
    _TECH_OUTLOOK,
)

_AI = story(
    "인공지능",
    """
    {startup}, {job} 돕는 인공지능 내놨다
    인공지능이 {job}까지…{startup} 서비스 시작
    {startup} 인공지능, {job} 시간 {ai_percent}% 줄였다
    """,
    sentence(
        """
        {startup:이} {job:을} [돕는|도와주는] 인공지능 [서비스를|프로그램을] {day}일 [시작했다|내놨다|선보였다].
        인공지능으로 {job:을} [대신하는|지원하는] [서비스가|프로그램이] {startup}에서 [나왔다|개발됐다].
        {startup:은} {day}일 {university:과} 함께 {job}에 쓸 수 있는 [언어 모델|인공지능 모델]을 [개발했다고|완성했다고] [밝혔다|발표했다].
        """
    ),
    sentence(
        """
        [시범 운영 결과|시험해 보니] {job}에 [걸리는|드는] 시간이 {ai_percent}% [줄었다|짧아졌다].
        {city}의 [공공기관|중소기업|병원] {sites}곳에서 [시험한|써 본] 결과 [업무 시간이|오류가] {ai_percent}% [줄어든|감소한] 것으로 [나타났다|조사됐다].
        """
    ),
    two_sentences(
        """
        [이 모델은|인공지능은] 한국어 문장 {corpus}만 개를 [익혀|학습해] 정확도를 {accuracy}%까지 [끌어올렸다|높였다].
        [학습에는|훈련에는] 그래픽 처리 장치 {gpus}개가 [쓰였고|동원됐고] {weeks}주가 걸렸다.
        매개변수는 {parameters}억 개로, [비슷한 크기의|같은 규모의] 모델보다 [답이|응답이] {growth}% [빠르다|빨라졌다].
        """
    ),
    two_sentences(
        """
        [이용자가|사용자가] [말이나 글로|사진을 올려] [물으면|요청하면] {feature:을} [실행한다|알아서 처리한다].
        {feature:과} {feature2:을} [한 화면에서|앱 하나로] [할 수 있고|쓸 수 있고] {country} 말을 비롯한 {languages}개 언어를 [알아듣는다|이해한다].
        [개인 정보는|입력한 내용은] [기기 안에서만|암호로 바꿔] [처리하고|저장하고] {hours_keep}시간이 지나면 [지운다|삭제한다].
        """
    ),
    _STARTUP_SPEAKS,
    _TECH_BACKGROUND,
    two_sentences(
        """
        [요금은|이용료는] 한 달 {fee}원이며 [대학생과|비영리 단체와] {school_kind}에는 [무료로|값을 받지 않고] [제공한다|열어 준다].
        {startup:은} 올해 안에 {tech:을} [더한|결합한] [기업용|교육용] [서비스도|상품도] [내놓을|선보일] [계획이다|예정이다].
        {ministry:은} 인공지능의 {tech_issue:을} [다룰|살필] [지침|기준]을 [마련하고 있다|다음 달 내놓는다].
        """
    ),
    _TECH_OUTLOOK,
)

_LEAK = story(
    "보안",
    """
    {startup} 해킹…회원 {victims}명 정보 유출
    {startup} 고객 {victims}명 {private} 샜다
    {private} {victims}건 유출…{startup} “깊이 사과”
    """,
    sentence(
        """
        {startup:이} 해킹을 당해 회원 {victims}명의 {private:이} [새어 나갔다|유출됐다|빠져나갔다].
        {startup} 이용자 {victims}명의 {private:이} [외부로|밖으로] [유출된|새어 나간] 것으로 {day}일 [드러났다|확인됐다|밝혀졌다].
        {startup:은} {day}일 [해킹으로|외부 공격으로] 회원 {victims}명의 {private:이} [유출됐다|흘러 나갔다]고 [밝혔다|알렸다].
        """
    ),
    sentence(
        """
        [공격자는|해커는] {weak_point:을} [노려|파고들어] [서버에|내부 전산망에] [들어온|침입한] 것으로 [조사됐다|보인다|추정된다].
        [조사 결과|초기 조사에서] {weak_point:이} [원인으로|침입 통로로] [지목됐다|꼽혔다|드러났다].
        """
    ),
    two_sentences(
        """
        [회사는|업체는] {past}일 오전 {clock}시쯤 [이상 접속을|수상한 움직임을] [알아채고|발견하고] [해당 서버를|외부 연결을] [끊었다|차단했다].
        [유출된|빠져나간] 정보에는 {private:과} {private2:이} [들어 있었지만|포함됐지만] [결제 정보는|비밀번호 원문은] [없는|포함되지 않은] 것으로 [알려졌다|전해졌다].
        [피해는|유출은] 지난달부터 {days_long}일 동안 [이어진|계속된] 것으로 [나타났다|확인됐다].
        """
    ),
    sentence(
        """
        {startup} {person} {tech_post:은} [사과문|입장문]에서 “{sorry}”라며 고개를 숙였다.
        {person} {startup} {tech_post:은} “{sorry}”라고 [사과했다|말했다|밝혔다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        {police} [사이버수사대는|사이버범죄수사팀은] [접속 기록을|서버를] [확보해|넘겨받아] {country} [등 해외|쪽] [인터넷 주소를|경로를] [추적하고|뒤쫓고] 있다.
        {ministry:은} 전문가 {experts}명으로 조사단을 [꾸려|보내] [원인을|경위를] [밝히기로 했다|조사하고 있다].
        [수사를 맡은|신고를 받은] {police:은} [용의자의|공격자의] [흔적을|위치를] [쫓고|추적하고] 있다고 밝혔다.
        """,
    ),
    two_sentences(
        """
        {university} {person2} 교수는 “{security_tip}”고 [당부했다|조언했다|말했다].
        {institute} {person6} [연구위원|책임연구원]은 “{security_tip2}”고 [강조했다|지적했다].
        [피해를|유출 여부를] [확인하려는|알고 싶은] 이용자는 {later}일까지 [누리집|앱|고객센터]에서 [조회할|문의할] 수 있다.
        """
    ),
    _TECH_BACKGROUND,
    two_sentences(
        """
        [이 회사에서는|이곳에서는] {hack_year}년에도 [비슷한 일이|정보 유출이] 있었다.
        [관련 법에 따라|위법이 드러나면] [매출의|연 매출의] 최대 {fine}%까지 과징금을 물 수 있다.
        회원 {plaintiffs}명은 [손해배상 소송을|집단 소송을] [내기로|준비하기로] 했다.
        """
    ),
)

_GAME = story(
    "게임",
    """
    {maker} 신작 {work}, {day}일 출시
    {maker}, {genre_game} {work} 공개
    {work} 사전 예약 {reserve}만 명…{maker} 새 게임
    """,
    sentence(
        """
        {maker:이} {genre_game} {work:을} {day}일 [출시했다|선보였다|내놓았다].
        {maker}의 새 {genre_game} {work:이} {day}일 [베일을 벗었다|공개됐다|나왔다].
        """
    ),
    sentence(
        """
        [사전 예약에는|출시 전 예약에는] {reserve}만 명이 [몰려|참여해] [기대를|관심을] 모았다.
        [공개|출시] 하루 만에 내려받기 {reserve}만 건을 [넘겼다|돌파했다].
        """
    ),
    sentence(
        """
        [이용자는|주인공은] {hero:이} 되어 {realm:을} [누비며|탐험하며] {quest:을} [벌인다|펼친다].
        {realm:을} [배경으로|무대로] {hero:과} {hero2:이} {quest:을} [벌이는|펼치는] [이야기다|내용이다].
        """
    ),
    two_sentences(
        """
        [개발진|제작진] {developers}명이 {years}년 동안 [만들었으며|매달렸으며] [음악은|배경 음악은] {troupe:이} [연주했다|맡았다].
        [등장인물은|캐릭터는] 모두 {characters}명이며 [지도|세계]의 넓이는 {realm_size}㎢에 [이른다|달한다].
        {tech:을} [써서|활용해] [물과 바람의|빛과 그림자의|옷자락의] [움직임을|흐름을] [사실처럼|실제에 가깝게] [그려 냈다|살렸다].
        """
    ),
    sentence(
        """
        {maker} {person} [총괄 감독|개발 총괄|감독]은 “{game_view}”고 [말했다|소개했다].
        {person} {maker} [아트 디렉터|프로듀서]는 “{game_view}”며 [기대를 나타냈다|자신감을 보였다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        [이용료는 없으며|기본 이용은 무료이며] [꾸미기 상품을|옷과 장신구를] {item_price}원부터 [판다|판매한다].
        {maker:은} [다음 달|올겨울] {country:과} {abroad}에서도 [서비스를 시작한다|게임을 선보인다].
        {later}일에는 {city}에서 [이용자|팬] {fans}명을 [초대해|불러] [대회를|행사를] [연다|마련한다].
        """
    ),
    two_sentences(
        """
        {maker:은} {hack_year}년 {work2:으로} [이름을 알린|대통령상을 받은] [게임사다|회사다].
        [전작인|앞서 나온] {work2:은} {country2}에서만 {sold}만 장이 [팔렸다|판매됐다].
        {broker:은} {maker}의 올해 매출이 {growth}% [늘|증가할] 것으로 [내다봤다|예상했다].
        """,
        optional=True,
    ),
    _TECH_OUTLOOK,
)

_RESEARCH = story(
    "연구",
    """
    {university}, {material} 대신할 {tech} 개발
    {university} 연구진, {tech} 효율 {growth}% 높였다
    {university} {person} 교수팀, {tech} 새 길 열어
    """,
    sentence(
        """
        {university} {person} 교수 연구팀이 {tech}의 [효율을|성능을] {growth}% [높이는|끌어올리는] [방법을|기술을] [찾아냈다|개발했다].
        {university:은} {person} 교수팀이 {tech}의 [성능을|수명을] {growth}% [늘리는|개선하는] 데 [성공했다고|이르렀다고] {day}일 [밝혔다|전했다].
        {person} {university} 교수팀이 {tech}에 쓰이는 [새 소재를|새로운 공정을] [개발해|제안해] [효율을|성능을] {growth}% [높였다|끌어올렸다].
        """
    ),
    sentence(
        """
        [연구팀은|연구진은] {material}에 {creature}의 {body_part:을} [본뜬|닮은] [구조를|무늬를] [입혀|새겨] [이런 결과를|성과를] [얻었다|냈다].
        {creature}의 {body_part}에서 [착안해|실마리를 얻어] {material} [표면을|속을] {nano}㎚ 크기로 [다듬은|깎은] 것이 [비결이다|핵심이다].
        """
    ),
    two_sentences(
        """
        [실험에서|시험 결과] {cycles}번을 [되풀이해도|반복해도] 성능이 {accuracy}% 이상 [유지됐다|남았다].
        [연구팀은|공동 연구진은] {temp_high}도의 [고온에서도|열에도] {hours_keep}시간 넘게 [견디는|버티는] 것을 [확인했다|보여 줬다].
        [기존|지금까지의] 방식은 {material2:을} 써야 [해서|했기에] [값이 비싸고|환경에 해롭고] {cycles2}번 쓰면 [망가지는|못 쓰게 되는] [한계가|흠이] 있었다.
        """
    ),
    sentence(
        """
        {person} 교수는 “{research_view}”며 “{research_hope}”고 [말했다|밝혔다|설명했다].
        [제1저자인|논문의 제1저자인] {person2} [박사과정생|연구원]은 “{research_hope}”고 [말했다|전했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        이번 연구에는 {university2:과} {institute:이} [함께 참여했다|힘을 보탰다].
        [연구는|이 연구는] {ministry}의 지원을 받아 {years}년 동안 [진행됐다|이뤄졌다].
        [논문은|연구 결과는] {country}에서 나오는 국제 학술지 {later}일자 [표지를 장식한다|표지 논문으로 실린다].
        """
    ),
    sentence(
        """
        [연구팀은|대학은] {company:과} [손잡고|함께] {year_to}년까지 [제품을|시제품을] [내놓을|선보일] [계획이다|예정이다].
        관련 [기술은|특허는] {startup}에 [이전됐으며|넘겨졌으며] [계약금은|기술료는] {fee_million}억 원이다.
        """
    ),
    _TECH_OUTLOOK,
)

_FUNDING = story(
    "벤처",
    """
    {startup}, {round_money}억 원 투자 유치
    {tech} 기업 {startup}, {round_money}억 투자받아
    {startup}에 {round_money}억 몰린 까닭
    """,
    sentence(
        """
        {tech} 기업 {startup:이} {round_money}억 원의 투자를 [받았다|유치했다|끌어냈다].
        {startup:은} {day}일 {broker} 등 투자사 {investors}곳에서 {round_money}억 원을 [투자받았다고|유치했다고] [밝혔다|발표했다].
        {tech:을} 개발하는 {startup:이} {day}일 {round_money}억 원 규모의 [투자 유치를|자금 조달을] [마쳤다|마무리했다].
        """
    ),
    two_sentences(
        """
        이로써 [누적|지금까지 받은] 투자금은 {total_funding}억 원으로 [늘었다|불어났다].
        [회사|기업] 가치는 {valuation}억 원으로 [평가받았다|인정받았다].
        """
    ),
    two_sentences(
        """
        {startup:은} {job}에 [쓰이는|필요한] {tech2:을} [만들어|제공해] [지난해|한 해] {sales_small}억 원의 [매출을 올렸다|매출을 냈다].
        [이 회사의|이 업체의] [서비스는|제품은] {job} 시간을 {ai_percent}% [줄여|단축해] {sites}개 [병원과 학교|공장과 물류센터|관공서와 기업]에서 [쓰이고 있다|이용하고 있다].
        """
    ),
    two_sentences(
        """
        [투자금은|이번 자금은] {tech_issue} [문제를 푸는|해결을 위한] [연구와|개발과] [인력 채용에|해외 진출에] [쓰인다|쓸 계획이다].
        [회사는|업체는] 올해 [개발자|연구원] {hires}명을 [새로 뽑고|채용하고] {abroad}에 [지사를|연구소를] [연다|세운다].
        """
    ),
    _STARTUP_SPEAKS,
    sentence(
        """
        [투자를|이번 투자를] 이끈 {broker} {person2} [심사역|팀장]은 “{invest_view}”고 [말했다|평가했다].
        {person2} {broker} [대표|상무|전무]는 “{invest_view}”고 [배경을 설명했다|투자 까닭을 밝혔다].
        """,
    ),
    _TECH_BACKGROUND,
    _TECH_OUTLOOK,
)

IT = Section("IT", (_LAUNCH, _AI, _LEAK, _GAME, _RESEARCH, _FUNDING))
