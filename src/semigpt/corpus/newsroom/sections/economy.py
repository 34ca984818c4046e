"""Economy: earnings, investment, prices, the stock market, housing, exports."""

from semigpt.corpus.newsroom.grammar import Section, sentence, story, two_sentences

_COMPANY_SPEAKS = sentence(
    """
    {company} {person} {post:은} “{resolve}”며 “{promise}”라고 [말했다|밝혔다|강조했다].
    {person} {company} {post:은} [이날|전날|최근] 기자들과 만나 “{resolve}”라고 [말했다|설명했다|전했다].
    {company} 측은 “{promise}”라며 “{resolve}”라고 [덧붙였다|전했다|설명했다].
    {company} {post:을} 맡고 있는 {person} 씨는 “{promise}”라고 [약속했다|거듭 강조했다|힘주어 말했다].
    {person} {post:은} [컨퍼런스콜|사내 행사|주주 간담회]에서 “{resolve}”라는 [뜻을|생각을|각오를] 밝혔다.
    """,
    paragraph=True,
)

_BROKER_SPEAKS = two_sentences(
    """
    {person2} {broker} [연구원|수석연구원|팀장]은 “{market_view}”라고 [분석했다|내다봤다|진단했다].
    {broker:은} [이날|최근] 낸 보고서에서 “{market_view2}”라고 [전망했다|평가했다].
    [증권가|시장|업계]에서는 {market_factor:이} [변수가 될 것으로 본다|앞으로의 방향을 가를 것이라는 분석이 나온다|가장 큰 걸림돌로 꼽힌다].
    {broker2} {person6} [센터장은|애널리스트는] {market_factor3:을} 살펴야 한다며 “{market_view3}”라고 말했다.
    [전문가들은|관계자들은] {market_factor4:과} {market_factor5:을} [함께 지켜봐야|눈여겨봐야] 한다고 [조언한다|입을 모은다].
    """,
    optional=True,
)

_MINISTRY_ADDS = two_sentences(
    """
    {ministry} 관계자는 “{market_factor}에 따른 영향을 줄이기 위해 {policy:을} [서두르겠다|검토하고 있다|앞당기겠다]”고 말했다.
    이와 관련해 {ministry:은} [다음 달|이르면 이달 말|오는 {later}일] {policy:을} [담은 대책을 내놓을 예정이다|공식 발표할 계획이다].
    {ministry:은} {policy:과} {policy2:을} [함께 추진하는 방안|묶어 시행하는 방안]을 [살펴보고 있다|논의하고 있다].
    한편 {ministry:은} 올해 {policy}에 {budget}억 원을 [쓰기로 했다|배정했다|투입할 방침이다].
    """,
    optional=True,
)

_EARNINGS = story(
    "실적",
    """
    {company}, {quarter}분기 영업이익 {profit}억 원…“예상 밖 선전”
    {company} 웃었다…{quarter}분기 영업이익 {profit}억 원
    {company} {quarter}분기 호실적…영업이익 {profit}억
    """,
    sentence(
        """
        {company:이} {quarter}분기에 영업이익 {profit}억 원을 [거뒀다고|올렸다고|기록했다고] {day}일 [공시했다|발표했다|밝혔다].
        {company:은} {day}일 [연결 기준|별도 기준] {quarter}분기 영업이익이 {profit}억 원으로 [집계됐다|잠정 집계됐다]고 [공시했다|밝혔다].
        {quarter}분기 {company}의 영업이익이 {profit}억 원에 [달했다|이르렀다]고 회사 측이 {day}일 [전했다|발표했다].
        """
    ),
    sentence(
        """
        이는 지난해 같은 기간보다 {rise}% [늘어난|증가한] [수치로|규모로], 당시에는 {=profit_before}억 원이었다.
        지난해 같은 분기와 [비교하면|견주면] {rise}% [늘었다|증가했다|불어났다].
        [1년 전보다|지난해 동기보다] {rise}% [뛰었는데|올랐는데], 그때는 {=profit_before}억 원에 [그쳤다|머물렀다].
        """
    ),
    sentence(
        """
        매출은 {sales}억 원으로 [시장 예상치|증권사들의 평균 전망치]를 {beat}% [웃돌았다|넘어섰다].
        같은 기간 매출은 {sales}억 원을 [기록했으며|나타냈고] {goods} [매출|판매] 비중이 {share}%로 [가장 컸다|가장 높았다].
        {goods} 판매가 늘면서 매출도 {sales}억 원까지 [확대됐다|커졌다|늘었다].
        """
    ),
    two_sentences(
        """
        회사는 {country:과} {country2}에서 {goods2} [주문이|수요가] [꾸준히|빠르게|크게] 늘어난 [덕분이라고|영향이라고|결과라고] [설명했다|풀이했다].
        [특히|그중에서도] {country} 수출이 {growth}% 늘어 {goods2} [부문|사업]의 [실적을 이끌었다|이익을 끌어올렸다].
        {material} 가격이 [안정되고|내리고] 환율이 [오른|유리하게 움직인] 점도 [도움이 됐다|실적에 보탬이 됐다].
        [비용을 줄이고|공정을 바꾸고] {goods2} [비중을 높인|품목을 늘린] 것이 [주효했다|효과를 냈다]는 [설명이다|평가다].
        """
    ),
    _COMPANY_SPEAKS,
    _BROKER_SPEAKS,
    two_sentences(
        """
        {company} 주가는 이날 전 거래일보다 {stock_move}% [오른|상승한] {share_price}원에 [거래를 마쳤다|장을 마감했다].
        이사회는 [이날|같은 날] 보통주 한 주에 {dividend}원을 [배당하기로 의결했다|현금으로 배당하기로 했다].
        {company:은} 올해 연간 [매출|수주] 목표를 {target_sales}억 원으로 [잡았다|올려 잡았다|제시했다].
        """,
        paragraph=True,
    ),
)

_FACTORY = story(
    "투자",
    """
    {company}, {place.name}에 {goods} 공장…{investment}억 원 투자
    {company:이} {investment}억 들여 {place.name}에 짓는 {goods} 공장
    {place.name}에 {company} 새 공장 들어선다
    """,
    sentence(
        """
        {company:이} {place}에 {goods} 공장을 [짓는다|새로 짓는다|세운다].
        {company:은} {day}일 {place} [산업단지|상공회의소]에서 {goods} 공장을 [짓기|세우기] 위한 [투자 협약|업무 협약]을 맺었다.
        {place}에 {company}의 {goods} [생산 기지가|새 공장이] [들어선다|생긴다].
        """
    ),
    sentence(
        """
        [회사|업체]는 {year_to}년까지 {investment}억 원을 [들여|투자해] {area}㎡ 터에 [생산 라인|제조 설비] {lines}개를 [갖출|들일|놓을] 계획이다.
        투자 규모는 {investment}억 원으로 {year_to}년 [상반기|하반기] 가동이 목표다.
        전체 터는 {area}㎡로, {investment}억 원이 {year_to}년까지 [차례로|나누어|단계적으로] [투입된다|들어간다].
        """
    ),
    two_sentences(
        """
        공장이 [완성되면|다 지어지면] 해마다 {goods} {output}톤을 [만들|생산할] 수 [있게 된다|있다].
        [이번 투자로|새 공장이 돌아가면] 일자리 {jobs}개가 [생길|새로 만들어질] 것으로 [기대된다|보인다|추산된다].
        {material:을} 비롯한 원재료는 [인근|지역] 업체에서 [우선|먼저] [사들이기로 했다|조달하기로 했다|받아 쓰기로 했다].
        """
    ),
    sentence(
        """
        {place.name}에서는 [지난 몇 년 동안|최근] {material} [공장이|업체가] [잇따라 문을 닫아|하나둘 떠나] 일자리 걱정이 [컸다|많았다].
        {place.province} 관계자는 “{jobs_view}”라며 [반겼다|기대를 나타냈다|환영했다].
        {place.province} 지역 [상공인들은|주민들은] “{jobs_view}”라고 [입을 모았다|기대했다].
        """,
        optional=True,
    ),
    _COMPANY_SPEAKS,
    two_sentences(
        """
        {company:은} {founded}년 {city}에서 {material} 업체로 [출발해|문을 열어] {goods}까지 [사업을 넓혔다|영역을 키웠다].
        {founded}년 [설립된|세워진] {company:은} {country} 등 {branches}개 나라에 [지사를|법인을|공장을] 두고 있다.
        {company:은} 지난해 {country:과} {country2}에 {goods:을} [내보내|수출해] {sales}억 원의 [매출을 올렸다|실적을 냈다].
        """,
        paragraph=True,
    ),
    _MINISTRY_ADDS,
)

_PRICES = story(
    "물가",
    """
    {produce} 값 {rise}% 껑충…장바구니 한숨
    치솟는 {produce} 가격…한 달 새 {rise}%↑
    “{produce} 사기 겁나요”…{rise}% 오른 밥상 물가
    """,
    sentence(
        """
        {produce} 값이 한 달 사이 {rise}% [올라|뛰어|치솟아] [장바구니 부담|소비자 부담|서민들의 시름]이 [커지고|깊어지고|무거워지고] 있다.
        {day}일 {market}에서 {produce:은} 한 달 전보다 {rise}% [비싼|오른] 값에 [팔렸다|거래됐다].
        [장마|가뭄|이상 기온] 탓에 {produce} 가격이 [한 달 만에|지난달보다] {rise}% [올랐다|급등했다].
        """
    ),
    sentence(
        """
        {institute}에 따르면 {produce} {produce.unit}의 [평균|도매] 가격은 {price}원으로, 한 달 전에는 {=price_before}원이었다.
        {institute:이} [조사한|집계한] 결과 {produce} {produce.unit}의 [소매|도매] 가격은 {price}원으로, {=price_before}원이던 한 달 전보다 [올랐다|비쌌다].
        """
    ),
    sentence(
        """
        {produce2:과} {produce3}도 [각각|같은 기간] {growth}%, {share}% [올랐다|비싸졌다].
        반면 {produce2:은} [출하량이 늘어|작황이 좋아] {drop}% [내렸고|떨어졌고] {produce3:은} [큰 변화가 없었다|지난달 수준을 지켰다].
        {dish} 한 그릇 값도 [덩달아|뒤따라] 뛰어 {district} [식당가|음식점]에서는 {meal_price}원을 [받는 곳이 늘었다|넘긴 곳이 많다].
        """
    ),
    sentence(
        """
        {market:을} 찾은 [주부|직장인|자영업자] {person} 씨는 “{price_complaint}”라고 [말했다|하소연했다|털어놨다].
        {district}에 사는 {person} 씨({age})는 “{price_complaint}”라며 [한숨을 쉬었다|고개를 저었다].
        {market}에서 {years}년째 장사하는 {person} 씨는 “{price_complaint}”라고 [했다|말했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        [주산지인|산지인] {city:과} {city2}의 [재배 면적이|출하량이] {drop2}% [줄어든|감소한] [영향이|탓이] 크다.
        {city}에서 {weather_harm:이} [이어져|겹쳐] [수확이 늦어졌기|작황이 나빠졌기] 때문이다.
        [농민들은|산지에서는] {weather_harm:과} {farm_cost} [상승을|부담을] [이유로|원인으로] 꼽는다.
        """
    ),
    _MINISTRY_ADDS,
    two_sentences(
        """
        {institute} 관계자는 “[다음 달|이달 하순|한두 주 뒤]부터 [출하가 늘어|물량이 풀려] 값이 [차츰|서서히] [안정될|내릴] 것”이라고 [내다봤다|전망했다].
        [유통업계는|대형마트들은] {later}일까지 {produce:을} 최대 {discount}% [싸게 파는|할인하는] [행사를 연다|판매전을 벌인다].
        값이 [내리려면|안정되려면] 한 달은 [더|넘게] 걸릴 것이라는 [관측이|의견이] [많다|우세하다].
        """
    ),
)

_STOCKS = story(
    "증시",
    """
    코스피, 껑충 오른 {index} 마감
    코스피 {index:으로} 상승 마감…{industry} 강세
    {industry} 훈풍에 코스피 {points}포인트↑
    """,
    sentence(
        """
        {day}일 코스피는 전 거래일보다 {points}포인트 [오른|상승한] {index}에 [거래를 마쳤다|장을 마쳤다|마감했다].
        코스피가 {day}일 {index:으로} 마감하며 {streak}거래일 [연속|내리] [올랐다|상승했다].
        코스피가 {industry} 종목의 [강세|오름세|상승세]에 힘입어 {day}일 {index}까지 [올랐다|상승했다].
        """
    ),
    sentence(
        """
        [외국인은|기관은] {net_buy}억 원어치를 [사들였고|순매수했고] 개인은 {net_sell}억 원어치를 [팔았다|순매도했다].
        이날 개인이 {net_sell}억 원을 순매도했지만 [외국인과 기관이|연기금이] {net_buy}억 원을 순매수하며 지수를 [떠받쳤다|끌어올렸다].
        [오전 한때|장 초반] {industry2} 종목이 [흔들리며|주춤하며] 지수가 [밀렸으나|내렸으나] [외국인|기관]이 {net_buy}억 원을 사들여 [흐름이 바뀌었다|방향을 돌렸다].
        """
    ),
    two_sentences(
        """
        업종별로는 {industry3:이} {growth}% [올라|뛰어] [가장 많이 상승했고|오름폭이 가장 컸고] {industry4:은} {drop3}% [내렸다|떨어졌다].
        종목 가운데는 {company5:이} {stock_move2}% 오른 {share_price}원에 [마감해|거래를 끝내] [눈길을 끌었다|최고가를 새로 썼다].
        {company:은} {goods} [공급 계약|수출 계약] 소식에 {stock_move}% [뛰었고|급등했고] {company2:은} {drop}% [내렸다|하락했다].
        """
    ),
    two_sentences(
        """
        코스닥 지수는 {kosdaq:으로} {kosdaq_points}포인트 [올랐다|상승했다].
        서울 외환시장에서 원/달러 환율은 {fx_move}원 [내린|하락한] {fx}원을 [기록했다|나타냈다].
        [전날|지난밤] 뉴욕 증시가 [오른|상승 마감한] 데다 {country} [물가|고용] 지표가 [예상을 밑돈|예상보다 좋은] 영향으로 [보인다|풀이된다].
        """
    ),
    sentence(
        """
        {broker} {person} [연구원|수석연구원]은 “{market_view}”라고 [분석했다|말했다|진단했다].
        {person} {broker} [리서치센터장|투자전략팀장]은 “{market_view}”라며 {market_factor:을} [주의하라고 당부했다|변수로 꼽았다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        [투자자들은|시장은] 오는 {later}일 나올 {country2}의 [금리 결정|고용 지표|물가 지수]에 [주목하고|눈길을 두고] 있다.
        다음 주에는 {company3:과} {company4}의 실적 발표가 [예정돼|잡혀] 있다.
        거래 대금은 {turnover}조 원으로 [전날보다|지난주 평균보다] [늘었다|줄었다].
        """
    ),
)

_HOUSING = story(
    "부동산",
    """
    {builder}, {district}에 {homes}가구 분양
    {district} 새 아파트 {homes}가구…청약 {ratio}대 1
    {district} 아파트 {homes}가구 나온다
    """,
    sentence(
        """
        {builder:이} {district}에 [짓는|공급하는] 아파트 {homes}가구의 [청약을|분양을] {day}일 [시작했다|마쳤다|마감했다].
        {district}에 [들어서는|짓는] {builder}의 아파트 {homes}가구가 {day}일 [청약자를 맞았다|분양에 들어갔다].
        """
    ),
    sentence(
        """
        [평균|1순위] 경쟁률은 {ratio}대 1로, [전용면적|전용] {flat}㎡가 [가장 인기가 높았다|가장 많은 신청을 받았다].
        [전용면적|전용] {flat}㎡는 {ratio}대 1의 경쟁률을 [보였다|기록했다].
        """
    ),
    two_sentences(
        """
        [분양가는|분양 가격은] 3.3㎡에 {pyeong_price}만 원으로 [주변|인근] [시세보다|새 아파트보다] {discount}% [싸다|낮다].
        지하 {basement}층, 지상 {storeys}층 [건물|규모로] {blocks}개 동으로 [짓고|이뤄지며] [입주는|준공은] {year_to}년으로 [예정돼 있다|잡혀 있다].
        [단지 안에는|단지에는] {facility:과} {facility2:이} [함께 들어선다|마련된다|생긴다].
        """
    ),
    sentence(
        """
        {district.city} [부동산 중개업소|공인중개사무소]를 운영하는 {person} 씨는 “{housing_view}”라고 [말했다|전했다|귀띔했다].
        {person} {university} [부동산학과|도시공학과] 교수는 “{housing_view}”라고 [분석했다|지적했다|내다봤다].
        {broker} {person} [연구위원|부동산팀장]은 “{housing_view}”라고 [진단했다|설명했다].
        """,
        paragraph=True,
    ),
    two_sentences(
        """
        {institute}에 따르면 지난달 {district.city} [아파트|주택] [매매|전세] 가격은 {beat}% [올랐다|내렸다].
        {district.city}에서는 올해 들어 아파트 {supply}가구가 [공급돼|분양돼] 지난해보다 {growth}% [늘었다|줄었다].
        {month}월 {district.city}의 아파트 거래는 {deals}건으로 [한 달 전보다|지난해 같은 달보다] {growth2}% [늘어났다|줄어들었다].
        """
    ),
    _MINISTRY_ADDS,
    two_sentences(
        """
        {builder:은} {later}일까지 [계약을 받고|서류를 받고] [다음 달|이달 말] {city}에서도 {homes2}가구를 [선보인다|내놓는다].
        [견본주택에는|모델하우스에는] [주말 사흘 동안|문을 연 뒤 나흘 동안] {visitors}명이 [다녀갔다|찾았다|몰렸다].
        [당첨자는|당첨자 명단은] 오는 {later}일 [누리집|홈페이지]에서 [발표한다|공개된다].
        """
    ),
)

_EXPORT = story(
    "수출",
    """
    {company} {goods}, {country} 간다…{contract}만 달러 계약
    {company}, {country}에 {goods} {contract}만 달러 수출
    {country} 뚫은 {company} {goods}
    """,
    sentence(
        """
        {company:이} {country}에 {goods} {contract}만 달러어치를 [수출한다|공급한다|납품한다].
        {company:은} {day}일 {country} [유통업체와|현지 업체와|국영 기업과] {goods} {contract}만 달러 규모의 [수출|공급] 계약을 [맺었다|체결했다].
        {country}에서 {company}의 {goods:이} {contract}만 달러어치 [팔린다|팔리게 됐다].
        """
    ),
    two_sentences(
        """
        [계약 기간은|납품은] {year_to}년까지이며 첫 물량은 다음 달 {port:을} [떠난다|통해 나간다].
        {company:은} {abroad:을} [거점으로|발판으로] {country2}까지 [판로를 넓힐|시장을 키울] [방침이다|생각이다].
        [제품은|물량은] {port}에서 배에 실려 {country.capital}까지 [옮겨진다|보내진다].
        """
    ),
    two_sentences(
        """
        이 제품은 {material:을} [쓰지 않고도|적게 쓰고도] [성능을|품질을] {growth}% [높인|끌어올린] 것이 [특징이다|강점이다].
        {company:은} {years}년 동안 {investment}억 원을 들여 이 제품을 [개발했다|만들어 냈다].
        [현지|유럽|아시아] [전시회|박람회]에서 [좋은 평가를 받은|호평을 얻은] 것이 [계약으로 이어졌다|밑거름이 됐다].
        """
    ),
    _COMPANY_SPEAKS,
    two_sentences(
        """
        {institute}에 따르면 지난달 {goods} 수출액은 {export_total}만 달러로 1년 전보다 {rise}% [늘었다|증가했다].
        올해 {country} 수출은 {rise2}% [늘어|증가해] {industry} 업계의 [기대가|관심이] [커지고|높아지고] 있다.
        [다만|그러나] {market_factor:이} [남아 있어|걸림돌이어서] [안심하기는 이르다|낙관하기 어렵다]는 [지적도 나온다|목소리도 있다].
        """,
        paragraph=True,
    ),
    _BROKER_SPEAKS,
    _MINISTRY_ADDS,
)

ECONOMY = Section("경제", (_EARNINGS, _FACTORY, _PRICES, _STOCKS, _HOUSING, _EXPORT))
