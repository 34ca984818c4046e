"""Culture: films, exhibitions, books, the stage, festivals, excavations, craftspeople."""

from semigpt.corpus.newsroom.grammar import Section, sentence, story, two_sentences

_CRITIC = two_sentences(
    """
    {person3} [문화평론가는|대중문화 평론가는] “{critic_says}”고 [평했다|말했다|짚었다].
    {university} {person6} 교수는 “{critic_says2}”고 [평가했다|분석했다].
    [평단에서는|전문가들 사이에서는] {merit:이} [돋보인다는|빼어나다는] [평이|반응이] [많다|나온다].
    [관객|누리꾼] {person7} 씨는 “{audience_says}”고 [적었다|말했다|남겼다].
    """,
    optional=True,
    paragraph=True,
)

_TICKETS = sentence(
    """
    [입장권은|관람권은] {ticket}원이며 {later}일까지 [미리 사면|예매하면] {discount}% [깎아 준다|할인한다].
    [관람료는|입장료는] 어른 {ticket}원, 어린이는 [절반이다|무료다].
    [문의는|자세한 내용은] [누리집으로|전화로] 하면 되고 값은 {ticket}원이다.
    {city:과} {city2}에서도 [다음 달|올가을|내년 봄] [이어진다|만날 수 있다|관객을 맞는다].
    """,
    optional=True,
)

_FILM = story(
    "영화",
    """
    {person} 감독 {work}, 관객 {audience}만 명 넘어
    영화 {work} {audience}만 돌파…{person2} 열연
    {audience}만이 본 {work}, {person} 감독의 힘
    """,
    sentence(
        """
        {person} 감독의 영화 {work:이} 관객 {audience}만 명을 [넘어섰다|돌파했다].
        {filmmaker:이} [만든|제작한] {person} 감독의 {work:이} [개봉|상영] {days_long}일 만에 {audience}만 관객을 [모았다|불러들였다].
        {day}일 {filmmaker}에 따르면 {person} 감독의 영화 {work:이} {audience}만 관객을 [기록했다|넘겼다].
        """
    ),
    sentence(
        """
        영화는 {era} {city:을} [배경으로|무대로] {hero_job:과} {hero_job2}의 {theme:을} [그린다|담았다|따라간다].
        {era:을} [살아가는|견디는] {hero_job:이} {hero_job2:을} 만나 {theme:을} [겪는|나누는] 이야기다.
        """
    ),
    two_sentences(
        """
        [주연을 맡은|주인공을 연기한] 배우 {person2:은} {craft:을} {months}달 동안 [배우며|익히며] [배역을|촬영을] [준비했다|기다렸다].
        배우 {person2:이} {hero_job:을} 맡아 [몸을 아끼지 않는|절제된|물오른] 연기를 [펼쳤다|보여 줬다].
        [촬영은|영화는] {mountain:과} {island}에서 {months2}달 동안 [이뤄졌으며|찍었으며] 제작비는 {film_cost}억 원이 들었다.
        """
    ),
    sentence(
        """
        {person} 감독은 “{artist_says}”고 [말했다|밝혔다|털어놨다].
        [시사회에서|무대인사에서] {person} 감독은 “{artist_says}”며 “{artist_hope}”고 [했다|덧붙였다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        {work:은} {abroad} 국제영화제에서 {prize:을} [받았다|거머쥐었다|안았다].
        [판권은|상영권은] {country} 등 {branches}개 나라에 [팔렸다|수출됐다].
        {work:은} {person} 감독이 {years}년 만에 [내놓은|선보인] {ordinal} 번째 [장편이다|작품이다].
        """
    ),
    _CRITIC,
    two_sentences(
        """
        [같은 주|같은 날] 개봉한 {work2:은} {audience2}만 명으로 [뒤를 이었다|2위에 올랐다].
        {filmmaker:은} {year_to}년 [후속편을|속편을] [내놓을|찍을] [계획이다|생각이다].
        {work:은} {later}일부터 [자막과 해설을 넣은|소리로 듣는] 판도 [상영한다|관객을 만난다].
        """
    ),
)

_EXHIBITION = story(
    "전시",
    """
    {craft} 명인 {person}, {district.name}서 개인전 {work}
    {material_art:으로} 빚은 {theme}…{person} 개인전
    {person} 작가 {work}전, {later}일까지
    """,
    sentence(
        """
        {material_art:으로} {theme:을} [표현해|이야기해] 온 {person} 작가의 개인전 {work:이} {day}일 {district}에서 [막을 올렸다|시작됐다].
        {person} 작가가 {district}에서 개인전 {work:을} [연다|열고 있다].
        """
    ),
    two_sentences(
        """
        [전시에는|이번 전시에는] {material_art:을} [쌓고|엮고|이어 붙이고] {color} 물감을 [입힌|덧칠한] 작품 {pieces}점이 [나온다|걸렸다].
        [작가는|작품들은] {creature:과} {flower:을} [소재로|빌려] {theme:을} [풀어낸다|보여 준다].
        """
    ),
    two_sentences(
        """
        [대표작인|가장 큰 작품인] {work2:은} 높이 {meters}m로 {craft}의 [기법을|손길을] [빌렸다|살렸다].
        [눈길을 끄는|맨 먼저 만나는] 작품은 {river:과} {mountain:을} [닮은|떠올리게 하는] {work2:이다}.
        {work2:은} {color:과} {color2:이} [어우러져|부딪치며] [보는 자리마다|시간에 따라] [다른 느낌을|새로운 빛을] 준다.
        """,
    ),
    sentence(
        """
        {person} 작가는 “{artist_says}”며 “{artist_hope}”고 [말했다|밝혔다|설명했다].
        [전시장에서 만난|작업실에서 만난] {person} 작가는 “{artist_says}”고 [했다|털어놨다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        {city}에서 태어난 {person} 작가는 {university:을} [나와|졸업하고] {abroad}에서 [공부했다|활동했다].
        {person} 작가는 {hack_year}년 {prize:을} [받으며|타며] [주목받았다|이름을 알렸다].
        """
    ),
    _CRITIC,
    two_sentences(
        """
        [전시는|이번 전시는] {later}일까지이며 [주말에는|토요일에는] {craft} 체험도 [할 수 있다|마련된다].
        {later}일에는 {troupe}의 [연주회가|공연이] [함께|전시장에서] [열린다|펼쳐진다].
        """
    ),
    _TICKETS,
)

_BOOK = story(
    "책",
    """
    {person} 새 {book_kind} {work} 출간
    {hero_job} 출신 {person}의 {book_kind} {work}
    {publisher}, {person} {book_kind} {work} 펴내
    """,
    sentence(
        """
        {hero_job:으로} 일했던 {person} 작가가 {book_kind} {work:을} [펴냈다|냈다|출간했다].
        {publisher:이} {hero_job} 출신 {person} 작가의 {book_kind} {work:을} {day}일 [내놓았다|펴냈다].
        {hero_job:이었던} {person} 작가의 {ordinal} 번째 {book_kind} {work:이} {publisher}에서 [나왔다|출간됐다].
        """
    ),
    sentence(
        """
        {pages}쪽에 [걸쳐|이르는 책에서] {island:과} {market:을} [오가며|떠돌며] [만난|마주친] 사람들의 {theme:을} [담았다|적었다].
        책은 {creature:과} {tree}의 [눈으로|입을 빌려] {theme:을} [들여다본다|이야기한다].
        """
    ),
    two_sentences(
        """
        [작가는|지은이는] {years}년 동안 {city:과} {city2:을} [찾아다니며|걸으며] {interviewees}명의 [말을|사연을] [모았다|받아 적었다].
        [특히|그 가운데] {dish} 한 그릇에 얽힌 [이야기는|대목은] [웃음과 눈물을|고향 생각을] [함께|절로] [자아낸다|부른다].
        [책에 실린|곁들인] [그림|판화] {pieces}점은 {person2} [화가가|작가가] [그렸다|맡았다].
        """
    ),
    sentence(
        """
        {person} 작가는 [책머리에|작가의 말에] “{artist_says}”고 [썼다|적었다].
        {person} 작가는 “{artist_says}”며 “{artist_hope}”고 [말했다|전했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        [책은|이 책은] [나온 지|출간] {days_long}일 만에 {sold}만 부가 [팔렸다|나갔다].
        {publisher} {person4} [편집장은|대표는] “{editor_says}”고 [소개했다|말했다].
        """
    ),
    _CRITIC,
    two_sentences(
        """
        {later}일 {district}의 [책방에서|도서관에서] 독자 {fans}명과 [만난다|이야기를 나눈다].
        {country:과} {country2}에서도 [번역본이|번역판이] [나온다|출간된다].
        [값은|책값은] {book_price}원이다.
        """
    ),
)

_STAGE = story(
    "공연",
    """
    {troupe} {work}, {district.name} 무대에
    {troupe}, {day}일 {work} 초연
    {work:으로} 돌아온 {troupe}
    """,
    sentence(
        """
        {troupe:이} {stage_kind} {work:을} {district} [무대에|극장에] [올린다|선보인다].
        {troupe}의 {stage_kind} {work:이} {day}일 {district}에서 [막을 올렸다|관객을 만났다].
        """
    ),
    sentence(
        """
        [작품은|무대는] {era} {hero_job:이} {theme:을} [찾아|좇아] {island:으로} [떠나는|건너가는] 이야기를 [다룬다|그린다].
        {era} [실제 있었던|전해 오는] {hero_job:과} {hero_job2}의 {theme:을} [바탕으로 했다|노래로 옮겼다].
        """
    ),
    two_sentences(
        """
        [배우|단원] {cast}명이 {instrument:과} {instrument2} 소리에 [맞춰|실려] [춤추고|노래하고] {craft:으로} [꾸민|지은] [옷이|무대가] [눈길을 끈다|멋을 더한다].
        {instrument} 연주자 {person2} 씨와 {instrument2} 연주자 {person4} 씨가 [협연한다|함께 무대에 선다].
        [연출은|예술감독은] {person6:이}, [음악은|작곡은] {person7:이} 맡아 {months}달 동안 [연습했다|준비했다].
        """
    ),
    sentence(
        """
        [주역을|주인공을] 맡은 {person} 씨는 “{artist_says}”고 [말했다|했다].
        {troupe} {person} [단장은|대표는] “{artist_says}”며 “{artist_hope}”고 [밝혔다|전했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        {work:은} {hack_year}년 {abroad}에서 [처음 공연돼|초연돼] {performances}회 [매진을|만석을] [기록했다|이뤘다].
        {founded}년 [만들어진|창단한] {troupe:은} {country} 등에서 {performances2}번 [공연했다|무대에 섰다].
        """
    ),
    _CRITIC,
    _TICKETS,
    two_sentences(
        """
        공연은 {later}일까지 {cast_days}차례 [이어진다|열린다].
        [첫 공연을|개막일을] 찾은 관객 {visitors_small}명은 [일어나|자리에서 일어나] [오랫동안|몇 분 동안] [손뼉을 쳤다|박수를 보냈다].
        """
    ),
)

_FESTIVAL = story(
    "축제",
    """
    {place.name} {produce} 축제, {day}일 개막
    {produce} 맛보러 {place.name} 갈까…{later}일까지 축제
    {place.name} {produce} 축제에 {visitors}명 발길
    """,
    sentence(
        """
        {place}에서 {produce} 축제가 {day}일 [막을 올렸다|시작됐다|문을 열었다].
        {produce:을} [주제로|앞세운] 축제가 {day}일부터 {later}일까지 {place}에서 [열린다|펼쳐진다].
        """
    ),
    two_sentences(
        """
        [첫날에만|개막일에만] {visitors}명이 [찾아|몰려] {produce:과} {dish:을} [맛보며|즐기며] [하루를|나들이를] [보냈다|즐겼다].
        [축제장에는|행사장에는] 장터 {stalls}곳이 [차려져|들어서] {dish:과} {dish2:을} [판다|내놓는다].
        """
    ),
    two_sentences(
        """
        [방문객은|아이들은] {craft:을} [만들고|배우고] {folk_game:과} {folk_game2:을} [할 수 있다|즐긴다].
        {river}에서는 {folk_game} 대회가 열려 {contestants}명이 [겨룬다|솜씨를 뽐낸다].
        [밤에는|해가 지면] {instrument} 연주와 {troupe}의 [춤이|노래가] [이어진다|흥을 돋운다].
        """,
    ),
    sentence(
        """
        {city}에서 온 {person} 씨({age})는 “{festival_says}”고 [말했다|했다|즐거워했다].
        [관광객|나들이객] {person} 씨는 “{festival_says}”며 [활짝 웃었다|엄지를 들었다].
        """,
        paragraph=True,
    ),
    sentence(
        """
        {produce} [농사를|재배를] {years}년 한 {person2} 씨는 “{farmer_says}”고 [말했다|자랑했다].
        축제를 [준비한|꾸민] {person2} [위원장은|추진위원장은] “{farmer_says}”고 [소개했다|전했다].
        """
    ),
    two_sentences(
        """
        {place.name:은} 전국 {produce} [생산량의|출하량의] {share}%를 [차지한다|맡고 있다].
        [이 축제는|축제는] {hack_year}년 [시작돼|처음 열려] 올해로 {ordinal} 번째다.
        [지난해|앞선] 축제 때는 {visitors2}명이 다녀가 {sales_small}억 원의 [경제 효과를|매출을] [냈다|올렸다].
        """
    ),
    _TICKETS,
    two_sentences(
        """
        [주차장은|임시 주차장은] {parking}대를 댈 수 있고 [역에서|터미널에서] {minutes}분마다 버스가 [다닌다|온다].
        {later}일 [폐막식에서는|마지막 날에는] {fireworks}발의 불꽃이 [밤하늘을|강가를] [수놓는다|밝힌다].
        """
    ),
)

_DIG = story(
    "문화재",
    """
    {place.name}서 {dynasty} {relic} 나왔다
    {dynasty} {relic} {place.name}에서 발굴
    {place.name}서 {dynasty} 유물 무더기 출토
    """,
    sentence(
        """
        {place}에서 {dynasty} {relic:이} [나왔다|발견됐다|모습을 드러냈다].
        {institute:은} {place}에서 {dynasty} {relic:을} [찾았다고|발굴했다고] {day}일 [밝혔다|발표했다].
        """
    ),
    two_sentences(
        """
        [함께|같은 자리에서] {relic2:과} {relic3} 등 유물 {pieces}점이 [나왔다|출토됐다].
        [길이|높이] {centimeters}㎝인 {relic}에는 {creature:과} {flower} 무늬가 [새겨져|그려져] 있다.
        """
    ),
    two_sentences(
        """
        [발굴단은|조사단은] {mountain} 자락 {area}㎡를 {months}달 동안 [파고|뒤지고] [흙을|돌을] [걷어 냈다|살폈다].
        [처음|맨 먼저] 발견한 사람은 {day_job:을} 하던 {person2} 씨({age})다.
        [흙 속|땅속] {meters}m [깊이에서|아래에서] [뚜껑이 덮인|옻칠이 남은|겹겹이 쌓인] 채 [발견됐다|드러났다].
        """
    ),
    sentence(
        """
        {person} [발굴단장은|조사단장은] “{relic_says}”고 [설명했다|말했다|평가했다].
        {university} {person} [고고학과|사학과] 교수는 “{relic_says}”고 [분석했다|풀이했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        [학계에서는|전문가들은] {dynasty} 사람들의 {life:과} {life2:을} [엿볼|밝힐] [실마리로|귀중한 자료로] [본다|평가한다].
        [유물의|출토품의] 성분을 [재어|분석해] 보니 {material_art:이} [섞여|들어] 있었다.
        """
    ),
    two_sentences(
        """
        [유물은|출토품은] {university} 박물관에서 [씻고 맞추는|보존] 작업을 거쳐 {year_to}년 [공개된다|전시된다].
        {place.name} [지자체는|당국은] 이 일대를 {facility:으로} [꾸밀|만들] [계획이다|생각이다].
        {ministry:은} {later}일 [현장 설명회를|학술 대회를] [연다|마련한다].
        """
    ),
    sentence(
        """
        {place.name}에서는 {hack_year}년에도 {relic4:이} [나온|발견된] 적이 있다.
        [이곳은|이 일대는] {dynasty} {life3}의 [중심지로|길목으로] [알려져|꼽혀] 왔다.
        """,
        optional=True,
    ),
)

_CRAFT = story(
    "사람",
    """
    {craft} {years}년 외길 {person} 씨
    {place.name} {craft} 장인 {person} 씨의 손
    {years}년째 {craft:을} 지키는 {person} 씨
    """,
    sentence(
        """
        {place}의 {craft} 장인 {person} 씨({age_old})는 {years}년째 [같은 자리에서|새벽마다] [작업장 문을 연다|불을 지핀다].
        {years}년 동안 {craft:을} [지켜 온|이어 온] {person} 씨({age_old})를 {day}일 {place}에서 [만났다|찾아갔다].
        """
    ),
    sentence(
        """
        [작업대에는|벽에는] {tool:과} {tool2:이} [가지런히 놓여|빼곡히 걸려] 있었다.
        [손에는|굳은살 박인 손에는] {tool:과} {tool2:이} [들려|쥐어져] 있었다.
        """
    ),
    sentence(
        """
        [한 점을|하나를] [만드는|완성하는] 데는 {tree}에서 얻은 재료와 {steps}가지 [손질이|과정이] [필요하고|들어가고] 꼬박 {days_long}일이 [걸린다|든다].
        {steps}번 [두드리고|깎고|삶고] {days_long}일을 [말려야|묵혀야] [제 빛깔이|제 모양이] 난다.
        """,
    ),
    sentence(
        """
        {person} 씨는 “{artisan_says}”며 “{artisan_hope}”고 [말했다|웃었다|했다].
        “{artisan_says}”고 말하는 {person} 씨는 [요즘|올해 들어] {tool3:을} [손수|직접] 만든다.
        """,
        paragraph=True,
    ),
    sentence(
        """
        [열다섯에|열여섯에|열일곱에] {city}에서 [스승|장인] {person2} 씨를 [만나|찾아가] [일을|기술을] [배웠다|익혔다].
        {hero_job} 일을 그만두고 {person2} 씨 [밑에서|곁에서] {apprentice}년 동안 [심부름부터|허드렛일부터] [배웠다|했다].
        """
    ),
    two_sentences(
        """
        {craft:을} [배우려는|이으려는] 젊은이는 [줄어|드물어] 전국에 {masters}명만 [남았다|남아 있다].
        [한때|예전에는] {market}에 가게가 {masters2}곳이나 [있었지만|됐지만] 이제는 [한 손에 꼽는다|몇 남지 않았다].
        """
    ),
    _CRITIC,
    two_sentences(
        """
        {person} 씨의 작품은 {country:과} {abroad} [박물관에도|미술관에도] [있다|걸려 있다].
        {person} 씨는 오는 {later}일 {school_kind} [아이들|학생들] {pupils}명에게 {craft:을} [가르친다|보여 준다].
        {person} 씨는 {hack_year}년 {prize:을} [받았다|탔다].
        """
    ),
)

CULTURE = Section("문화", (_FILM, _EXHIBITION, _BOOK, _STAGE, _FESTIVAL, _DIG, _CRAFT))
