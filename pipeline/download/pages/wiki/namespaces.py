"""Recognize the links of a wiki that show no text: files and categories, in any language.

In: the target and the label of a link, and the wiki's own names of the namespaces 6 and 14, which its dump declares. Out: whether
the link is one to a file, or puts the page into a category. Dumps rarely list aliases, so three kinds of evidence count: a name in
`NAMES` (English, and the names and aliases of large wikis); the structure of a file link (a prefix, and an ending of a media file
or options between bars), whatever its words; for categories, their usual place, lines of nothing but links with a prefix at the end
of a page. Does not cover: an unlisted alias of the category namespace in the middle of a page.
"""

from __future__ import annotations

import re

MEDIA = re.compile(
    r"\.(?:jpe?g|png|svg|gif|tiff?|webp|xcf|bmp|ogg|oga|ogv|ogx|webm|mp[34]|mpe?g|wav|flac|opus|midi?|pdf|djvu|stl)\Z",
    re.IGNORECASE,
)
PREFIX = re.compile(r"[^\W\d][^\[\]|{}<>#:]{0,40}")
CATEGORY_LINE = re.compile(r"(?:(?:\[\[[^\[\]|:{}\n]{1,40}:[^\[\]\n]+\]\]|\{\{[^{}\n]*\}\}|<!--[^<>\n]*-->)\s*)+")
LINK = re.compile(r"\[\[[^\[\]|:{}\n]{1,40}:[^\[\]\n]+\]\]")
MAX_CATEGORY_LINES = 200

FILE_NAMES = (
    *("file", "image"),
    *("datei", "bild", "fichier", "archivo", "imagen", "ficheiro", "arquivo", "imagem", "imaxe", "immagine", "bestand"),
    *(
        "afbeelding",
        "plik",
        "grafika",
        "fil",
        "billede",
        "bilde",
        "tiedosto",
        "kuva",
        "soubor",
        "súbor",
        "obrázok",
        "fájl",
    ),
    *(
        "kép",
        "fișier",
        "fişier",
        "imagine",
        "dosya",
        "resim",
        "datoteka",
        "slika",
        "fitxer",
        "imatge",
        "fitxategi",
        "irudi",
    ),
    *("pilt", "attēls", "vaizdas", "berkas", "gambar", "tập tin", "hình", "dosiero", "fasciculus", "delwedd", "íomhá"),
    *(
        "mynd",
        "skeda",
        "figura",
        "fayl",
        "tasvir",
        "lêer",
        "beeld",
        "şəkil",
        "файл",
        "изображение",
        "зображення",
        "картинка",
    ),
    *("выява", "сурет", "датотека", "слика", "податотека", "αρχείο", "εικόνα", "ფაილი", "պատկեր", "קובץ", "תמונה"),
    *("ملف", "صورة", "پرونده", "تصویر", "فائل", "चित्र", "फ़ाइल", "চিত্র", "ফাইল", "படிமம்", "దస్త్రం", "బొమ్మ", "ചിത്രം"),
    *(
        "പ്രമാണം",
        "ಚಿತ್ರ",
        "ไฟล์",
        "ภาพ",
        "ファイル",
        "画像",
        "파일",
        "그림",
        "文件",
        "档案",
        "檔案",
        "图像",
        "圖像",
        "图片",
        "圖片",
    ),
)
CATEGORY_NAMES = (
    "category",
    *("kategorie", "catégorie", "categoría", "categoria", "categorie", "kategoria", "kategori", "luokka", "kategória"),
    *("kategooria", "kategorija", "kateqoriya", "kategorio", "categori", "catagóir", "flokkur", "turkum", "thể loại"),
    *("категория", "категорія", "катэгорыя", "категорија", "санат", "κατηγορία", "კატეგორია", "կատեգորիա", "קטגוריה"),
    *("تصنيف", "رده", "زمرہ", "श्रेणी", "वर्ग", "বিষয়শ্রেণী", "பகுப்பு", "వర్గం", "വർഗ്ഗം", "ವರ್ಗ", "หมวดหมู่"),
    *("カテゴリ", "분류", "分类", "分類"),
)
NAMES = frozenset((*FILE_NAMES, *CATEGORY_NAMES))


def is_hidden_link(target: str, label: str | None, names: frozenset[str]) -> bool:
    """Return whether a link shows no text; `label` is None where it has none, and `names` are the wiki's own, in lower case."""
    prefix, colon, rest = target.strip().partition(":")
    if not colon or not prefix:
        return False
    prefix = " ".join(prefix.lower().replace("_", " ").replace("\u200e", "").replace("\u200f", "").split())
    if prefix in names or prefix in NAMES:
        return True
    is_media = bool(MEDIA.search(rest.rstrip())) or "|" in (label or "")
    return is_media and prefix != "media" and bool(PREFIX.fullmatch(prefix))


def cut_categories(wikitext: str) -> str:
    """Return the page without the links in the lines at its end that consist of nothing but links with a prefix, and templates."""
    end = len(wikitext)
    for _ in range(MAX_CATEGORY_LINES):
        start = wikitext.rfind("\n", 0, end)
        line = wikitext[start + 1 : end].strip()
        if start < 0 or (line and not CATEGORY_LINE.fullmatch(line)):
            break
        end = start
    return wikitext[:end] + LINK.sub("", wikitext[end:]) if end < len(wikitext) else wikitext
