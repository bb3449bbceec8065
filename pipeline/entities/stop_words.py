"""Words that never name what a picture shows, though knowledge bases have them as nouns."""

# Function words, and verbs and adjectives that web text uses far more often than the noun of the same spelling.
_FUNCTION_WORDS = """
a about above across after again against ago all almost along also although always am among an and any are around as at away
be because been before behind being below beneath beside besides between beyond both but by can cannot could did do does doing
done down during each either else etc even ever every few for from further get gets getting go goes going got had has have
having he hence her here hers herself him himself his how however i if in including inside instead into is it its itself just
least less let like made make makes making many may me might mine more most much must my myself near neither no nor not now of
off often on once one only onto or other others our ours ourselves out outside over own per quite rather really same she
should since so some such than that the their theirs them themselves then there these they this those though through
throughout thus to too toward towards under until unto up upon us use used using very via was we well were what when where
whether which while who whom whose why will with within without would yes yet you your yours yourself
big small large little long short tall high low great good best better bad worst old new young ancient modern nice fine main
real true full empty open closed free fast slow hot cold right left top bottom upper lower front back rear first second third
last next previous final early late two three four five six seven eight nine ten hundred thousand million
flat simple plain round solid dark bright common general special major minor standard basic normal regular classic digital
national international natural double single mini super sweet sour bitter rich poor dry wet soft hard rough warm cool deep
cute pretty lovely happy sad funny free easy various several different similar possible local global public private
look looks looking show shows showing see seen say take put set run turn come
"""

# The words of other Latin-script languages that English knowledge bases know as something else.
_FOREIGN_WORDS = """
al alla am auf aus au aux bei con da das dal de deg dei del della dem den der des di die du ein eine el en er es est et gli het
il im ist la las le les lo los mit na nel no o och of om os ou para pas per por pour que sans se sin su sul sur te tra um un
una und une uno van vom von y zu zum zur
"""

_COLOURS = """
red orange yellow green blue purple violet pink brown black white gray grey beige cyan magenta turquoise teal maroon navy
indigo crimson scarlet ivory tan khaki mauve lilac lavender azure aqua amber gold golden silver bronze color colour
colors colours
"""

# What nearly every picture on the web is called, whatever it shows.
_GENERIC = """
image images picture pictures pic pics photo photos photograph photography photographer snapshot snap shot scene view
icon icons clipart clip drawing illustration graphic graphics artwork art design designs designer vector logo emblem banner
background wallpaper texture pattern template render rendering screenshot thumbnail preview sketch painting print poster
collection set series pack bundle part piece pieces section element elements item items thing things object objects stuff
kind type sort style version variant size format file files page site website web internet online link blog post
http https www com html
symbol symbols shape shapes form forms outline outlines silhouette silhouettes
gallery album portfolio caption title name word words text description detail details example sample copy original edition
number numbers letter letters size scale level quality resolution color closeup close macro wide angle stock royalty
day days week month year years time times moment today tomorrow yesterday morning night date season
way ways lot lots bit use uses idea ideas thing model theme topic subject content information info help home author
creator source public domain license copyright right rights
"""

STOP_WORDS = frozenset((_FUNCTION_WORDS + _FOREIGN_WORDS).split())
STOP_ENTITIES = frozenset((_COLOURS + _GENERIC).split()) | {"clip art", "close up", "stop", "public domain"}
