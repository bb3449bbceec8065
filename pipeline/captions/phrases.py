"""Stock phrases of web pages that end up in alt texts: regular expressions, one entry is one phrase.

General conventions of the field, in English: navigation, shops and advertisements, placeholders and errors, notices,
credit lines. Entries match anywhere in a caption between word boundaries, in any case; PLACEHOLDERS and MENU match whole
captions only, since the same words may describe inside a longer one. Repetitions are bounded: time stays linear.
"""

_VIEW = r"full|large|larger|big|bigger|original|actual|high[- ]?res(?:olution)?|more|entire|complete"
_THING = r"size|sized|image|images|photo|photos|picture|pictures|version|details?|gallery|resolution|screen|info|view"
_SMALL = r"the|this|these|that|an?|our|my|your|all|on|in|for|to|at|it|or|and"
_PICTURE = r"photograph|photo|image|picture|pic|illustration|screenshot|video|cover"
_NAME = r"(?:[:\s]+(?:(?-i:[A-Z0-9])[\w.'’-]*|[@&|/]\s?\w*|via|and|for|of|the|from)){0,6}"   # whom a credit line names
_MONEY = r"[$€£]\s?\d[\d.,]*"

NAVIGATION = (
    rf"(?:please )?(?:click|tap|press)(?: (?:here|{_SMALL}|thumbnails?|link|button|below|above|see|view|enlarge|"
    rf"expand|zoom|"
    rf"download|read|open|play|visit|watch|continue|{_VIEW}|{_THING})){{1,12}}",
    rf"(?:view|see|show|open|enlarge|expand|load)(?: (?:{_SMALL})){{0,3}}(?: (?:{_VIEW})){{1,3}}(?:"
    rf" (?:{_THING})){{0,3}}",
    rf"(?:enlarge|zoom|expand|save|share|print|pin|email|rate|report)(?: (?:{_SMALL})){{0,3}} (?:{_THING}|page|"
    rf"article|post|link)",
    r"(?:read|learn|find out|discover) more(?: (?:about|here|at|on)(?: \w+)?)?|continue reading|keep reading",
    r"back to (?:top|home)|skip to (?:main )?(?:content|navigation)|(?:next|previous) (?:page|post|article)",
    r"scroll (?:down|up|for more)|swipe (?:left|right|up)|(?:roll ?over|hover|mouse ?over)(?: image)?(?: to zoom)?",
    r"(?:share|follow|find|like|join|visit|contact|call|email|message|text) us(?: (?:on|at|now|today|for|via)(?:"
    r" \w+){0,2})?",
    r"(?:share|pin|tweet|like) (?:this|it|on)(?: (?:on|for|later|facebook|twitter|pinterest|post|pin)){0,3}",
    r"(?:subscribe|sign up|register|log ?in|sign in)(?: (?:now|today|here|free|to|for|or|with)){1,3}(?: \w+){0,2}",
    r"(?:watch|play)(?: (?:the|this|full|now|free)){0,3} (?:video|trailer|movie|online)(?: (?:online|free|now|"
    r"hd)){0,3}",
    r"visit (?:our|the|my) (?:\w+ )?(?:website|site|page|store|shop|blog)|link in (?:bio|description)|check (?:it|"
    r"us) out",
    r"page \d+ of \d+|(?:image|photo|picture|slide) \d+ (?:of|/) \d+|opens? in (?:a )?new (?:window|tab)|site ?map|"
    r"rss feed",
    r"leave a (?:comment|reply)|\d+ comments?|(?:you (?:may|might) also like|recommended for you|people also"
    r" (?:viewed|bought))",
    r"related (?:posts?|articles?|products?|images?)|posted (?:by|on|in)(?: \w+){1,3}|powered by \w+|table of"
    r" contents",
)

SHOPS = (
    r"(?:buy|shop|order|book|call|get|try|act|apply|download|donate|bid|enquire|inquire)(?: (?:it|yours?|one|them|"
    r"this))?"
    r"(?: (?:now|today|here|online|direct|instantly)){1,3}",
    r"add(?:ed)? to (?:(?:the|your|my) )?(?:cart|basket|bag|wish ?list|favou?rites|compare)|shopping cart|quick"
    r" ?(?:view|shop|buy)",
    r"(?:free|fast|worldwide|same[- ]day|next[- ]day|express|cheap|international)(?: (?:and|&|fast|free|"
    r"worldwide)){0,3}"
    r" (?:shipping|delivery|postage|returns?)(?: (?:worldwide|on|over|all|orders?|available|included)){0,4}",
    r"(?:best|low(?:est)?|great|cheap(?:est)?|discount(?:ed)?|wholesale|special|reduced|factory|unbeatable|"
    r"affordable)"
    r" (?:online )?(?:prices?|deals?|offers?|rates?|bargains?)(?: (?:guaranteed?|ever|online|today|in town)){0,2}",
    r"(?:(?:up to|save|extra|get) ){0,3}\$?\d{1,3}\s?(?:%|percent) (?:off|discount|cashback)",
    rf"save (?:up to )?(?:\d+%|{_MONEY})",
    r"money[- ]back(?: guarantee)?|(?:satisfaction|100%) guaranteed?|100% (?:free|safe|authentic|satisfaction)",
    r"(?:limited|special|exclusive|promotional|introductory)(?:[- ]time)? (?:offers?|deals?|only|stock)|(?:offer|"
    r"sale) ends(?: \w+)?",
    r"(?:while|until) (?:stocks?|supplies) lasts?|hurry(?: up)?|don['’]?t miss(?: (?:out|it|this)){1,2}|last chance|"
    r"act fast",
    r"(?:in|out of|low) stock|sold out|back ?order(?:ed)?|pre-?order(?: now)?|for sale(?: (?:online|now|"
    r"cheap)){0,2}|on sale(?: now| today)?",
    r"(?:clearance|hot|flash|mega|summer|winter|big) sale|black friday|cyber monday|best[- ]?sellers?|buy (?:one|"
    r"\d) get (?:one|\d)(?: free)?",
    r"no (?:credit card|obligation|minimum|fees?|prescription)(?: (?:required|needed|necessary))?|gift cards?|"
    r"(?:coupon|promo|discount|voucher) codes?",
    rf"pay ?day loans?|cash advance|make money(?: (?:online|fast|from home)){{0,2}}|work from home|earn (?:up to"
    rf" )?{_MONEY}",
    r"(?:online |free )?(?:casino|poker|slots|betting|lottery)(?: (?:online|bonus|games?|free)){1,3}|you(?:['’]ve|"
    r" have)? won",
    r"(?:cheap|generic|buy|online|discount) (?:viagra|cialis|pills|replica|backlinks|followers|essays?)(?:"
    r" (?:online|cheap|now)){0,3}",
    r"free (?:download|trial|sample|quote|estimate|consultation|e-?book|printable|sign ?up|registration|gift)s?",
    r"(?:(?:free|hd|4k|1080p|desktop|mobile|iphone) ){1,4}(?:wallpapers?|backgrounds?)(?: (?:free|download|hd)){0,3}",
    rf"(?:(?:as low as|starting at|starting from|only|from|was|now|rrp|price):? ?)?{_MONEY}(?: (?:only|each|usd|eur|"
    rf"gbp))?",
)

MISSING = (
    r"(?:no|missing|broken|invalid) (?:image|photo|picture|preview|thumbnail|cover|caption|description|title|"
    r"alt(?:ernative)? text)"
    r"(?: (?:is|was|yet|currently|available|found|provided|supplied|added|set)){0,4}",
    rf"(?:(?:this|the|your|an?|sorry) ){{0,2}}(?:{_PICTURE}|preview|content|page|file|product|item|thumbnail|"
    rf"caption|description)s?"
    r"(?: (?:you|requested|is|are|was|were|has|have|been|could|can|may|be|not|yet|currently|temporarily|no"
    r" longer)){1,6}"
    r" (?:available|found|loaded|displayed|shown|exist|removed|deleted|unavailable|missing|moved|expired)",
    rf"(?:{_PICTURE}|preview|content|page|file) (?:unavailable|missing|not found)|(?:{_PICTURE}|page|site|content|"
    rf"more)?s? ?coming soon",
    r"under construction|please wait|loading(?: (?:image|please|wait)){1,3}",
    r"(?:insert|add|enter|edit|upload|place|replace|choose|select)(?: (?:your|an?|the|this|image|photo|picture|"
    r"caption|text|title|"
    r"description|alt|logo|file|here|with|to)){2,8}|your (?:image|photo|text|logo|caption|title|ad) here",
    r"(?:error )?(?:404|403|500|502|503) (?:error|not found|forbidden|page|internal)(?: \w+)?|page not found|access"
    r" denied|bad gateway",
    r"internal server error|(?:hotlink\w*|bandwidth|quota)(?: (?:is|limit|not|has been)){0,3} (?:allowed|exceeded|"
    r"forbidden|disabled|protect\w+)",
    r"browser (?:does not|doesn['’]?t|can ?not|is not)(?: currently)? support(?:ed)?(?: (?:the|this|html5?|video|"
    r"audio|iframes?|canvas|tag)){0,4}",
    r"(?:please )?(?:enable|turn on|activate|requires?) (?:javascript|cookies|flash)|javascript (?:is )?(?:disabled|"
    r"required)",
    r"(?:we|this (?:web)?site|our (?:web)?site) uses? cookies|accept (?:all )?cookies|cookie (?:policy|settings|"
    r"notice)",
    r"privacy policy|terms (?:of|and|&) (?:use|service|conditions)|i['’]?a?m not a robot|captcha(?: image| code)?|"
    r"verification code",
    r"lorem ipsum(?: dolor)?(?: sit)?(?: amet)?(?: consectetur)?(?: adipiscing)?(?: elit)?",
)

CREDITS = (
    rf"(?:{_PICTURE})s?(?: ?/ ?\w+)? ?(?:credits?|courtesy(?: of)?|source|by|via|copyright|provided by|taken by|"
    rf"supplied by|©){_NAME}",
    rf"(?:credits?|courtesy|source|copyright)(?: (?:to|of|by))? ?:{_NAME}|courtesy of{_NAME}",
    rf"(?:©|\(c\)|copyright(?:ed)?)\s*(?:©|\(c\))?(?:\s*\d{{4}}(?:\s?[-–]\s?\d{{2,4}})?)?(?: by)?{_NAME}",
    r"all rights? reserved|used (?:with|by) (?:kind )?permission(?: of)?|subject to copyright|trade ?marks? of",
    r"do not (?:copy|use|reproduce|distribute|steal|repost)(?: without (?:prior |written )*permission)?|no"
    r" reproduction",
    r"(?:royalty[- ]free|stock|rights[- ]managed|editorial|creative commons)(?:[- ](?:free|vector|stock|editorial|"
    r"hd)){0,3}"
    r"[- ]?(?:photograph(?:y|s)?|photos?|images?|pictures?|illustrations?|vectors?|footage|videos?|licen[cs]e)",
    r"getty ?images?|shutterstock|i?stock ?photos?|istock|alamy|dreamstime|depositphotos|123rf|adobe ?stock|fotolia|"
    r"bigstock",
    r"unsplash|pexels|pixabay|freepik|flickr|pinterest|facebook|instagram|tumblr|youtube|wikimedia commons",
)

MARKUP = (
    r"(?:https?|ftp)://\S+|www\.\S+",
    r"[\w-]{1,63}(?:\.[\w-]{1,63}){0,4}\.(?:com|net|org|info|biz|io|edu|gov|co\.uk|de|ru|html?|php|aspx?)(?:/\S*)?",
    r"[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{2,63}",
    r"</?[a-z!][^<>]{0,300}>|<!--.{0,300}?-->",
    r"\[/?(?:img|url|caption|gallery|b|i|embed|vc_\w+)\b[^\[\]]{0,200}\]|\{\{[^{}]{0,200}\}\}|\$\{[^{}]{0,100}\}|"
    r"%[a-z_]{3,30}%",
    r"(?:src|href|alt|width|height|class|style|align|border)\s?=\s?[\"'][^\"']{0,200}[\"']?",
    r"&(?:nbsp|lt|gt|quot|copy|reg|raquo|laquo);",
)

PLACEHOLDERS = (
    r"(?:(?:an?|the|this|my|our|your|no|main|featured?|post|product|article|blog|hero|cover|profile|page|site|"
    r"website|company|default|"
    r"alt|meta|related|full[- ]?size|large|small|sample|test|new|attached|slide) ){0,4}"
    r"(?:untitled|unnamed|unknown|none|null|nil|nan|n/?a|undefined|default|empty|blank|tod?o|tb[da]|alt|title|name|"
    r"text|caption|"
    r"description|images?|img|photos?|photograph|pictures?|pics?|foto|bild|imagen|graphics?|media|attachment|files?|"
    r"thumb(?:nail)?|"
    r"preview|placeholder|spacer|(?:tracking )?pixel|banner|logo|avatar|ads?|advertisement|sponsored|promoted|"
    r"loading|slide(?:show)?|"
    r"gallery|carousel|video|document|test|example|sample|home(?:page)?|menu|search|next|previous|prev|back|close|"
    r"share|print|more|"
    r"screen ?shot|clip ?art|wallpaper)"
    r"(?: (?:title|name|text|alt|tag|caption|description|image|photo|picture|gallery|file|here|\d{1,4})){0,3}",
)

_SECTION = (
    r"home(?: ?page)?|about(?: us| me)?|contact(?: us| me)?|blog|news|shop|store|products?|services?|gallery|"
    r"portfolio|faqs?|help|"
    r"support|log ?in|sign ?in|sign ?up|register|my account|cart|checkout|privacy(?: policy)?|terms(?: of (?:use|"
    r"service))?|"
    r"site ?map|search|categor(?:y|ies)|uncategori[sz]ed|archives?|events?|careers|press|links|menu|main|index|"
    r"download(?:s)?"
)
# A page's menu or the path to the page: sections and nothing else.
MENU = rf"(?:{_SECTION})(?:\s*[|>»›/·•:,–—-]+\s*(?:{_SECTION})){{1,12}}"

PHRASES = (*NAVIGATION, *SHOPS, *MISSING, *CREDITS)
