"""List the names of common templates by what they stand for, in lower case.

In: nothing. Out: tuples of names, and maps from names to signs. Names are those of the English Wikipedia and those that other large
wikis have for the same.
"""

from __future__ import annotations


def _list_names(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(";"))


def _map_names(pairs: str) -> dict[str, str]:
    """Return a map from the names before each `→` to what follows it; `_` is a space that belongs to the sign."""
    lines = (line.partition("→") for line in pairs.strip().splitlines())
    return {name: sign.strip().replace("_", " ") for names, _, sign in lines for name in _list_names(names)}


# The text is the first argument.
FIRST = _list_names(
    "nowrap; nobr; nobreak; nowr; nwr; esd; small; smaller; big; larger; large; resize; petit; em; strong; i; b; bold; italic; u;"
    "tt; kbd; var; mvar; math; code; mono; samp; noitalic; smallcaps; sc; sc2; small caps; caps; bigger; abbr; abbrv; tooltip;"
    "hover title; abbreviation; abréviation; abréviation discrète; abrd; comment; h:title; sic; not a typo; typo; as written;"
    "proper name; visible anchor; vanchor; term; defn; terme défini; flag; flagcountry; flagu; флагификация; fnum; number; число;"
    "liczba; nts; iast; pinyin; unicode; script; polytonic; hebrew; 要出典範囲; zit; به انگلیسی; אנג; год; angbr; tq; underline;"
    "strikethrough; key; référence nécessaire; référence souhaitée; refnec; passage à actualiser; nowiki; keep; langr; font"
)
# The first argument is a language or a script, the second one the text.
SECOND = _list_names(
    "color; colour; fontcolor; wikt-lang; lang; langue; langx; llang; nlang; 언어; w języku; 外语; 外語; rtl-lang; script/lang"
)
# The arguments are items of a list.
LISTS = _list_names("hlist; ubl; unbulleted list; ublist; cslist; comma separated entries; linktext; vunblist")
# A page that only another wiki has.
LINKS = _list_names(
    "ill; interlanguage link; interlanguage link multi; illm; link-interwiki; link-en; link-ja; link-de; link-fr; le; tsl; ilh;"
    "ilc; internal link helper; 仮リンク; 임시링크; lien; нп; нп3; нп5; iw; не переведено; не переведено 3; не переведено 5;"
    "enlace interlingüístico"
)
BLOCKS = _list_names(
    "quote; blockquote; block quote; cquote; quotation; bquote; zitat; citazione; citation bloc; цитата;"
    "quote box; plainlist; flatlist"
)
SHIPS = _list_names("uss; hms; ss; rms; mv; ms; hmcs; hmas; ins; sms; usns; uscgc; gts; hmnzs; css")
SIGNS = _map_names("""
nbsp; space; spaces; thin space; thinsp; ש → _
snd; spnd; spaced ndash; spaced en dash; – → _–_
ndash; en dash; endash → –
mdash; em dash; emdash; — → —
spaced mdash; spaced em dash; smd → _—_
·; middot; dot; •; bullet; bull → _·_
' → '
's → 's
= → =
pi → π
deg → °
minus → −
times → ×
pm → ±
euro → €
°c → °C
n°; numéro → nº
m. → M.
mme → Mme
mlle → Mlle
½ → 1/2
рубль → ₽
av. j.-c; av jc; av j.-c → av._J.-C.
ap. j.-c; ap jc → apr._J.-C.
a. c. → a._C.
d. c. → d._C.
okina → ʻ
ad → AD
bc → BC
bce → BCE
""")
CURRENCIES = _map_names("""
us$; usd → US$
$ → $
a$; au$; aud → A$
c$; ca$; cad → C$
nz$; nzd → NZ$
hk$; hkd → HK$
s$; sgd → S$
r$; brl → R$
mxn → MX$
gbp; £; pound sterling → £
eur; € → €
inr; ₹; indian rupee; rupee → ₹
jpy; ¥; yen → ¥
cny; rmb → CN¥
krw; ₩ → ₩
php; ₱ → ₱
ils; nis → ₪
try → ₺
uah → ₴
rub → ₽
vnd → ₫
ngn → ₦
thb → ฿
idr → Rp
myr → RM
zar → R
chf → CHF_
sek → SEK_
nok → NOK_
dkk → DKK_
pln → PLN_
czk → CZK_
huf → HUF_
dem → DM_
""")
RUPEES = _map_names("""
c; cr → crore
l; lakh → lakh
m → million
b → billion
t → trillion
k → thousand
lc → lakh_crore
""")
UNITS = _map_names("""
c → °C
f → °F
sqmi → sq_mi
sqft → sq_ft
sqkm → km^2
cuft → cu_ft
kph → km/h
""")
# What may be between two numbers of `{{convert|30|to|40|m}}`.
JOINTS = _map_names("""
-; – → –
to; to(-) → _to_
to about → _to_about_
and → _and_
or → _or_
by → _by_
x; ×; *; xx → _×_
±; +/- → _±_
+ → _+_
, → ,_
""")
# Arguments: year, month, day.
YEAR_FIRST = _list_names(
    "birth date; birth date and age; birth-date; birth-date and age; bda; dob; birth year and age; birth date2; bd2; death date;"
    "death date and age; death-date; death-date and age; dda; dod; death year and age; start date; start date and age; start-date;"
    "end date; end-date; film date; release date; launch date; opening date; date; dts; date table sorting; published date;"
    "生年月日と年齢; 生年月日; 출생일과 나이; 死亡年月日と没年齢; 没年齢; 출생일; 사망일; 날짜"
)
# Arguments: day, month, year.
DAY_FIRST = _list_names(
    "date de naissance; date de décès; date-; date rapide; fecha; fecha de nacimiento; fecha de inicio; fecha de fallecimiento;"
    "fecha de nacimiento y edad; dni; dnibr; nascimento; morte; falecimento; data de nascimento; дата рождения; дата смерти; дата;"
    "дата народження; дата смерті"
)
