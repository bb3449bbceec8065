"""Whole captions that are a file name, a hash or what a camera writes into its description field.

The names are the defaults of cameras, phones, scanners, messengers and content systems (DCF's DSC/IMG/PICT and their
like), and default values of the EXIF ImageDescription field that are common on the web.
"""

import re

MAX_CHARACTERS = 255
"""What file systems allow a name; a longer caption is none."""

EXTENSION = (
    r"\.(?:jpe?g|jpe|jfif|png|gif|webp|bmp|tiff?|svg|heic|heif|avif|raw|cr2|nef|arw|dng|psd|eps|ico)"
)

_DEVICES = (
    r"img|image|pict|pic|picture|photo|foto|bild|immagine|imagen|dsc[fnh]?|dcp|dcim|imgp|hpim|mvi|mvc|sam|sdc|kif|cimg|"
    r"st[pcda]|pa?|dji|gopr|gp|gh|wp|pxl|mg|crw|sany|snap|vlcsnap|fb[-_ ]img|received|signal|whatsapp[-_ ]image"
)
_SYSTEMS = (
    r"scan(?:ned)?|file|untitled|unnamed|unknown|download|capture|screen[-_ ]?(?:shot|grab)|bildschirmfoto|frame|slide|"
    r"page|fig(?:ure)?|tn|thumb(?:nail)?|banner|logo|icon|header|background|bg|default|placeholder|attachment"
)
_STEMS = (
    # IMG_1234, Screenshot 2020-01-31 at 10.12.13: more words must begin with a digit
    rf"_?(?:{_DEVICES}|{_SYSTEMS})[-_ ]*\d[\w.:()-]*(?: (?:at|am|pm|\(?\d[\w.:()-]*))*",
    r"_?(?:img|dsc|mg|image|picture|photo|scan|untitled|unnamed|download|screenshot)[-_]*",
    r"\d[\d_.:T -]*",                                       # numbers, dates, time stamps
    r"(?=[a-f]*\d)[0-9a-f]{12,}",                           # a hexadecimal digest
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",         # a UUID
    r"(?=(?:\S*\d){4})(?=(?:\S*[a-z]){4})(?!\S*[a-z]{5})[\w-]{16,}",   # another id: letters and digits mixed, no word
)
_COPY = r"(?:[-_ ]*(?:\(\d+\)|copy(?:[-_ ]\d+)?|\d{2,4}x\d{2,4}|thumb|small|large|scaled|e\d{10,}))*"
_FILE = re.compile(
    rf"(?:(?:{'|'.join(_STEMS)}){_COPY}(?:{EXTENSION})?"
    rf"|\S+(?: \S+){{0,2}}{EXTENSION})",   # my-dog.jpg, but no sentence that ends in a name
    re.IGNORECASE,
)

_MAKERS = r"olympus|konica(?: minolta)?|minolta|kodak|sony|samsung|vivitar|polaroid|ricoh|casio|hp"
_BRANDS = r"canon|nikon|sony|panasonic|olympus|pentax|fujifilm|kodak|leica|samsung|ricoh|casio|gopro|konica|minolta"
_MODELS = r"eos|powershot|ixus|coolpix|cyber-?shot|lumix|finepix|easyshare|digital|rebel|hero|mark|i{1,3}|[\w-]*\d[\w-]*"
_CAMERA = re.compile(
    "|".join((
        rf"(?:(?:{_MAKERS}) )?digital (?:still )?camera(?: pictures?)?",
        r"sony dsc|samsung camera pictures?|exif[ _]jpeg(?:[ _]\w+)?|cof|oznor|hdr(?:pl)?",
        rf"(?:{_BRANDS})(?: corporation)?(?: (?:{_MODELS}))*",
        r"(?:apple )?iphone(?: \d{1,2}\w?)?(?: (?:pro|max|plus|mini))*",
        r"creator: gd-jpeg.*|lead technologies.*|acd systems.*|file written by adobe.*|processed with .*",
        r"created (?:with|by|in) (?:the )?(?:gimp|photoshop|adobe.*|paint.*|inkscape)",
    )),
    re.IGNORECASE,
)


def is_filename(text: str) -> bool:
    """Whether the whole of a normalised caption is a file name, a hash or a camera's default description."""
    if len(text) > MAX_CHARACTERS:
        return False
    return bool(_FILE.fullmatch(text) or _CAMERA.fullmatch(text))
