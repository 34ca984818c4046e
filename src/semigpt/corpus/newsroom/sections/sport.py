"""Sport: football, baseball, volleyball, races, wrestling and archery, transfers."""

from semigpt.corpus.newsroom.grammar import Section, sentence, story, two_sentences

_COACH = sentence(
    """
    {person3} {club} 감독은 [경기 뒤|기자회견에서] “{coach_says}”고 [말했다|총평했다|밝혔다].
    {club} {person3} 감독은 “{coach_says}”며 선수들을 [치켜세웠다|칭찬했다].
    승장 {person3} 감독은 “{coach_says}”고 [소감을 밝혔다|말했다].
    """,
    paragraph=True,
)

_PLAYER = sentence(
    """
    {person:은} “{player_says}”며 “{player_hope}”고 [말했다|했다|다짐했다].
    [경기 최우수 선수로 뽑힌|수훈 선수로 선정된] {person:은} “{player_says}”고 [말했다|웃었다|전했다].
    {person:은} [방송 인터뷰|경기 뒤 인터뷰]에서 “{player_hope}”고 [다짐했다|약속했다|밝혔다].
    """
)

_NEXT_MATCH = sentence(
    """
    {club:은} 오는 {later}일 {club3:과} [맞붙는다|다음 경기를 치른다|맞대결한다].
    {club2:은} {later}일 [안방에서|원정에서] {club3:을} [만난다|상대한다].
    {club:은} {later}일 {city:으로} [옮겨|떠나] {club3:과} [맞선다|연전을 벌인다].
    """,
)

_CROWD = two_sentences(
    """
    [이날|이날 경기에는] 관중 {crowd}명이 [들어차|찾아] {weather_mood} 날씨에도 [목청껏 응원했다|뜨거운 함성을 보냈다].
    {city}에서 온 팬 {person4} 씨({age})는 “{fan_says}”고 [말했다|외쳤다|했다].
    관중석을 메운 {crowd}명은 {food_stand:을} [나눠 먹으며|들고] [경기를 즐겼다|응원가를 불렀다].
    """,
    optional=True,
)

_FOOTBALL = story(
    "축구",
    """
    {club}, {club2:을} {goals:으로} 꺾어
    {person} 결승골…{club}, {club2}에 {goals} 승리
    ‘{person} 펄펄’ {club}, {club2} 제압
    """,
    sentence(
        """
        {club:이} {day}일 {city}에서 열린 프로축구 경기에서 {person}의 [결승골|활약]에 힘입어 {club2:을} {goals:으로} [꺾었다|눌렀다|이겼다].
        {person:이} [골을 터뜨린|공격을 이끈] {club:이} {day}일 안방에서 {club2:을} {goals:으로} [물리쳤다|이겼다|제압했다].
        프로축구 {club:이} {day}일 {person}의 [발끝|머리]에서 나온 골로 {club2}에 {goals:으로} [이겼다|승리했다].
        """
    ),
    sentence(
        """
        {person2:이} 전반 {half_minute}분 [오른쪽|왼쪽|가운데]에서 올린 공을 {person:이} {football_move:으로} [마무리했다|골망에 꽂았다].
        전반 {half_minute}분 {person2}의 [도움을|패스를] 받은 {person:이} {football_move:으로} [골문을 열었다|선제골을 뽑았다].
        """,
    ),
    sentence(
        """
        {club2:은} 후반 {half_minute2}분 {person5:을} [넣어|투입해] {tactic:을} [노렸지만|시도했지만] [골대를|수비벽을] 넘지 못했다.
        후반 {half_minute2}분에는 {club2} {person5:이} [경고를 받아|부상으로] [물러나|빠져나가] {tactic:이} [흔들렸다|무너졌다].
        문지기 {person6:은} 슈팅 {saves}개를 [막아|쳐] 내며 골문을 [지켰다|든든히 지켰다].
        """
    ),
    sentence(
        """
        {club:은} {streak_short}연승을 달리며 승점 {league_points:으로} {standing}위에 [올랐다|자리했다].
        승점 {league_points:을} 쌓은 {club:은} {standing}위로 [올라섰다|뛰어올랐다].
        슈팅 수는 {shots}개, 공 점유율은 {survey}%로 {club:이} [앞섰다|경기를 이끌었다].
        """,
    ),
    _COACH,
    _PLAYER,
    _CROWD,
    _NEXT_MATCH,
)

_BASEBALL = story(
    "야구",
    """
    {club}, {club2}에 {runs} 승리…{person} 호투
    마운드 지킨 {person}…{club} {runs} 승
    {club} {person}, {club2} 타선 잠재웠다
    """,
    sentence(
        """
        {club:이} {day}일 {city} 야구장에서 열린 경기에서 [선발|왼손|오른손] 투수 {person}의 [호투|역투]를 앞세워 {club2:을} {runs:으로} [이겼다|꺾었다].
        프로야구 {club:이} {day}일 {club2:과} 벌인 [안방|원정] 경기에서 {person}의 [눈부신|빼어난] 투구로 {runs} 승리를 [거뒀다|챙겼다].
        """
    ),
    two_sentences(
        """
        {person:은} {innings}이닝 동안 삼진 {strikeouts}개를 [잡고|솎아 내고] {hits}안타 {runs_allowed}점으로 [막았다|버텼다].
        {person:은} 최고 시속 {pitch_speed}㎞의 {pitch:과} {pitch2:으로} [타자들을|상대를] [묶었다|돌려세웠다].
        """
    ),
    two_sentences(
        """
        [타선에서는|방망이는] {person2:이} {inning}회 {distance}m짜리 [홈런을|아치를] [쏘아 올려|그려] {runs_in}타점을 [올렸다|쓸어 담았다].
        {inning}회 {person2}의 {batting:으로} [흐름을|승기를] [잡은|가져온] {club:은} {inning2}회 {person6}의 {batting2:으로} [달아났다|점수를 보탰다].
        """
    ),
    sentence(
        """
        {club2:은} {person5:을} {relief_order} 번째 투수로 [올렸으나|냈으나] {fault:을} [저지르며|되풀이하며] [무너졌다|고개를 숙였다].
        {club2} {person5:은} {hits2}안타를 [맞고|내주고] {fault}까지 [겹쳐|나와] [마운드를 내려갔다|패전 투수가 됐다].
        """
    ),
    _COACH,
    _PLAYER,
    two_sentences(
        """
        {club:은} {wins}승 {losses}패로 {standing}위를 [지켰다|되찾았다].
        {person}의 [평균자책점은|시즌 평균자책점은] {era_avg:으로} [낮아졌다|내려갔다].
        {club:은} {club2} 상대 {streak_short}연승을 [이어 갔다|달렸다].
        """,
        optional=True,
    ),
    _CROWD,
    _NEXT_MATCH,
)

_VOLLEYBALL = story(
    "배구",
    """
    {club}, {club2:을} {sets:으로} 눌러
    {person} 앞세운 {club} 짜릿한 승리
    날아오른 {person}…{club}, {club2} 꺾어
    """,
    sentence(
        """
        {club:이} {day}일 {city} 체육관에서 열린 [여자|남자] 프로배구에서 {person}의 [맹활약으로|강타를 앞세워] {club2:을} {sets:으로} [눌렀다|꺾었다].
        [여자|남자] 프로배구 {club:이} {day}일 {club2:과} 맞붙어 세트 점수 {sets:으로} 이겼고 {person:이} [맨 앞에|중심에] 섰다.
        """
    ),
    sentence(
        """
        {person:은} {spikes}점을 [올리며|퍼부으며] {volleyball_move} 성공률 {survey}%를 [찍었다|기록했다].
        {person:은} {volleyball_move:과} {volleyball_move2}에서 [상대를 압도하며|고른 활약으로] {spikes}점을 [쓸어 담았다|책임졌다].
        """
    ),
    two_sentences(
        """
        [첫 세트를|1세트를] {set_points} 대 25로 [내준|빼앗긴] {club:은} {person2:을} [넣으며|투입해] {volleyball_move3:을} [살렸다|되찾았다].
        [마지막 세트|승부처]에서는 {person2:이} {blocks_made}차례나 [상대 공격을 가로막아|손끝 감각을 뽐내] [분위기를|승부를] [바꿨다|갈랐다].
        """
    ),
    sentence(
        """
        {club2:은} {person5:이} {points_for}점을 [올렸지만|냈지만] {fault:을} {mistakes}개나 [쏟아 내|저질러] [주저앉았다|무릎을 꿇었다].
        {club2} {person5:은} {injury:으로} [코트를 떠났다|들것에 실려 나갔다|후반을 쉬었다].
        """
    ),
    _COACH,
    _PLAYER,
    sentence(
        """
        {club:은} 승점 {league_points:으로} {standing}위에 [올랐다|자리 잡았다].
        {club:은} {club2:과} 벌인 최근 {streak_short}경기를 모두 [이겼다|쓸어 담았다].
        """,
        optional=True,
    ),
    _CROWD,
    _NEXT_MATCH,
)

_RACE = story(
    "육상",
    """
    {person}, {athletics} 우승
    {university} {person}, {athletics} 금메달
    {person}, {place.name}서 열린 {athletics} 정상
    """,
    sentence(
        """
        {university} {person:이} {day}일 {place}에서 열린 전국대회 {athletics}에서 [우승했다|정상에 올랐다|금메달을 땄다].
        {day}일 {place}에서 [끝난|치러진] 대회에서 {university} {person:이} {athletics} [1위를 차지했다|금메달을 목에 걸었다].
        """
    ),
    sentence(
        """
        {person:은} [대회 기록을|종전 기록을] {hundredths}초 [앞당기며|줄이며] {person2:을} {hundredths2}초 차로 [따돌렸다|제쳤다].
        [출발부터|중반부터] [앞서 나간|치고 나간] {person:은} 2위 {person2:과} {hundredths2}초 [차를 벌렸다|차로 들어왔다].
        """
    ),
    two_sentences(
        """
        {person:은} [키|신장] {height}㎝로 {habit:을} [거르지 않는|즐기는] 성실한 선수로 [알려져 있다|꼽힌다].
        {hack_year}년 {injury:으로} [쉬었던|운동을 그만둘 뻔한] {person:은} {months}달의 재활 끝에 [돌아왔다|다시 일어섰다].
        {person:은} {city}에서 [나고 자라|초등학교를 다니며] {folk_game:과} {sport_hobby:을} [즐기던|좋아하던] [아이였다|개구쟁이였다].
        """,
    ),
    _PLAYER,
    sentence(
        """
        {university} {person3} [코치는|감독은] “{coach_says}”고 [말했다|전했다].
        [지도한|스승인] {person3} [코치는|감독은] “{coach_says}”며 [눈시울을 붉혔다|어깨를 두드렸다].
        """
    ),
    sentence(
        """
        [한편|이날] {athletics2}에서는 {university2} {person5:이}, {athletics3}에서는 {person6:이} [우승했다|1위에 올랐다].
        {person5:은} {athletics2}에서 {hundredths3}초 차로 [은메달을|동메달을] [땄다|차지했다].
        """
    ),
    two_sentences(
        """
        {person:은} 오는 {later}일 {abroad:으로} 떠나 {months2}달 동안 [훈련한다|몸을 만든다].
        [대회는|이번 대회는] {later}일까지 {contestants}명이 {events}개 종목에서 [겨룬다|승부를 벌인다].
        {person:은} {year_to}년 {country}에서 열리는 국제대회 [출전을|메달을] [노린다|바라본다].
        """
    ),
)

_WRESTLING = story(
    "씨름·양궁",
    """
    {person}, {place.name} {contest} 정상
    {contest} 우승컵 든 {person}
    활짝 웃은 {person}…{contest} 우승
    """,
    sentence(
        """
        {person:이} {day}일 {place}에서 열린 {contest} 결승에서 {person2:을} [꺾고|누르고] [우승했다|정상에 올랐다].
        {place}에서 {day}일 [막을 내린|끝난] {contest}에서 {person:이} {person2:을} [물리치고|이기고] 정상에 [섰다|올랐다].
        """
    ),
    sentence(
        """
        {person:은} [결승 초반|첫판]부터 {martial_move:을} [앞세워|시도해] [기선을 잡았고|앞서 나갔고] {martial_move2:으로} [승부를 끝냈다|마침표를 찍었다].
        [한 점 차로|아슬아슬하게] 뒤지던 {person:은} 종료 {seconds}초를 남기고 {martial_move:으로} [뒤집었다|역전했다].
        """
    ),
    sentence(
        """
        준결승에서는 {city:을} 대표해 나온 {person5:을} {martial_move3:으로} [눌렀다|이겼다].
        [앞선|준결승] 경기에서 {person:은} {person5:과} {minutes}분 동안 [맞서다|겨루다] [가까스로|힘겹게] [이겼다|올라왔다].
        """
    ),
    _PLAYER,
    two_sentences(
        """
        {person:은} 이번 우승으로 {ordinal} 번째 [우승컵을|꽃가마를] [들었다|탔다].
        {person:은} 상금 {prize_money}만 원과 {gift:을} [받았다|안았다].
        {hack_year}년 {university:을} 나온 {person:은} {injury:을} [이겨 내고|견디고] [다시 섰다|돌아왔다].
        """
    ),
    sentence(
        """
        {person3} 감독은 “{coach_says}”고 [말했다|칭찬했다].
        [어머니|아버지|할머니] {person4} 씨는 “{family_says}”며 [눈물을 훔쳤다|손을 잡았다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        [시상식에서는|경기장에서는] {instrument:과} {instrument2} 가락에 맞춰 {produce:을} [나눠 주는|맛보는] 행사도 [열렸다|있었다].
        다음 대회는 {later}일 {city2}에서 [열리며|개막하며] {contestants}명이 [나선다|참가한다].
        """
    ),
)

_TRANSFER = story(
    "이적",
    """
    {club}, {person} 영입…{contract_years}년 {salary}억 원
    {person}, {club} 유니폼 입는다
    {club2} 떠난 {person}, {club} 품에
    """,
    sentence(
        """
        {club:은} {club2}에서 뛰던 {person:을} [영입했다|데려왔다]고 {day}일 [발표했다|밝혔다].
        {club2} {person:이} {club} 유니폼을 [입는다|입고 뛴다].
        {person:이} {club2:을} 떠나 {club:으로} [옮긴다|둥지를 옮겼다|이적한다].
        """
    ),
    sentence(
        """
        계약 기간은 {contract_years}년, [총액은|몸값은] {salary}억 원으로 [알려졌다|전해졌다].
        {club:은} {contract_years}년 동안 {salary}억 원을 [주고|지급하고] {city}에 [집도|차도] [마련해 주기로|내주기로] 했다.
        """
    ),
    two_sentences(
        """
        {person:은} 지난 시즌 {games}경기에 나서 {points_for}점을 [올리며|기록하며] {player_merit:을} [뽐냈다|인정받았다].
        [키|신장] {height}㎝인 {person:은} {player_merit:과} {player_merit2:을} [두루 갖춘|겸비한] 선수로 [꼽힌다|평가받는다].
        {hack_year}년 {university:을} [나와|졸업하고] 프로에 온 {person:은} {player_merit3:이} [장점이다|무기다].
        """
    ),
    _PLAYER,
    sentence(
        """
        {person3} {club} 감독은 “{signing_says}”고 [반겼다|기대했다|말했다].
        {club} {person3} [단장은|감독은] “{signing_says}”며 [기대를 나타냈다|배경을 설명했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        {club2:은} [빈자리를|공백을] 메우려고 {country} 출신 {foreigner:을} [데려온다|점찍었다|살피고 있다].
        {club2} 팬들은 {fan_gift:을} [걸고|보내며] [아쉬워했다|떠나는 선수를 배웅했다].
        """
    ),
    two_sentences(
        """
        {person:은} {later}일 {abroad}에서 시작하는 [전지훈련|합동훈련]부터 [함께한다|합류한다].
        [입단식은|환영식은] {later}일 {city2}에서 [열린다|치러진다].
        {club:은} {founded}년 [만들어져|창단해] {titles}번 [우승한|정상에 오른] [팀이다|구단이다].
        """
    ),
)

SPORT = Section("스포츠", (_FOOTBALL, _BASEBALL, _VOLLEYBALL, _RACE, _WRESTLING, _TRANSFER))
