"""Numbers in English sentences: from figures to spoken words, and back to the figures people write.

A recogniser can only learn one spelling per sound. Every transcript therefore is `written(spoken(text))`: words up to
nine, figures from ten on, "$12", "25%", "3:30", "1987", "May 21".
"""

import re

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
SCALES = {"thousand": 1000, "million": 10**6, "billion": 10**9}
ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth"
).split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS = {**{w: n for n, w in enumerate(ORDINALS) if n}, "twentieth": 20, "thirtieth": 30, "thirty first": 31}
DAYS.update({f"twenty {ORDINALS[n]}": 20 + n for n in range(1, 10)})
SMALL = {w: n for n, w in enumerate(ONES)} | {w: 10 * n for n, w in enumerate(TENS) if n > 1}


def cardinal(n):
    """42 -> "forty two"."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (f" {ONES[n % 10]}" if n % 10 else "")
    for name, unit in (("billion", 10**9), ("million", 10**6), ("thousand", 1000), ("hundred", 100)):
        if n >= unit:
            rest = n % unit
            return f"{cardinal(n // unit)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(n):
    """21 -> "twenty first"."""
    if n < 20:
        return ORDINALS[n]
    if n < 100 and n % 10 == 0:
        return TENS[n // 10][:-1] + "ieth"
    head = cardinal(n - n % (10 if n < 100 else 100))
    return f"{head} {ORDINALS[n % 10]}" if n < 100 else (f"{head} {ordinal(n % 100)}" if n % 100 else head + "th")


def year(n):
    """1987 -> "nineteen eighty seven"."""
    high, low = divmod(n, 100)
    if 2000 <= n < 2010:
        return cardinal(n)
    if low == 0:
        return f"{cardinal(high)} hundred"
    return f"{cardinal(high)} " + (f"oh {ONES[low]}" if low < 10 else cardinal(low))


def _integer(text):
    n = int(text.replace(",", ""))
    return year(n) if "," not in text and (1100 <= n < 2000 or 2000 < n < 2100) and n % 100 else cardinal(n)


def _money(m):
    whole, cents, scale = int(m[1].replace(",", "")), m[2], m[3] or ""
    out = f"{cardinal(whole)}{scale} dollar{'' if whole == 1 and not scale else 's'}"
    return out + (f" and {cardinal(int(cents))} cents" if cents and int(cents) else "")


def _time(m):
    hour, minute = int(m[1]), int(m[2])
    if minute == 0:
        return cardinal(hour) + ("" if m[3] else " o'clock") + (m[3] or "")
    return f"{cardinal(hour)} " + (f"oh {ONES[minute]}" if minute < 10 else cardinal(minute)) + (m[3] or "")


def spoken(text):
    """The sentence with every figure written out, or None where a figure is of a kind this module cannot read."""
    s = re.sub(r"\$(\d[\d,]*)(?:\.(\d\d))?( million| billion| thousand)?(?![\d.]*\d)", _money, text)
    s = re.sub(r"\b(\d{1,2}):(\d\d)( [ap]\.?m\b)?(?:(?<=m)(?=\.))?", _time, s)
    s = re.sub(r"(\d+)\.(\d+)", lambda m: cardinal(int(m[1])) + " point " + " ".join(ONES[int(c)] for c in m[2]), s)
    s = re.sub(rf"\b({'|'.join(MONTHS)}) (\d\d?)(?:st|nd|rd|th)?\b(?![:,]\d)", lambda m: f"{m[1]} {ordinal(int(m[2]))}" if int(m[2]) else m[0], s)
    s = re.sub(r"\b(\d{1,2})(?:st|nd|rd|th)\b", lambda m: ordinal(int(m[1])), s)
    s = re.sub(r"%", " percent", s)
    s = re.sub(r"(?<![\w.,:$-])([1-9]\d*(?:,\d{3})*|0)(?![\w:$-]|[.,]\d)", lambda m: _integer(m[1]) if int(m[1].replace(",", "")) < 10**12 else m[0], s)
    if re.search(r"\d|\$|%", s):
        return None
    return s[:1].upper() + s[1:] if text[:1].isdigit() or text[:1] == "$" else s


_WORD = "|".join(sorted(list(SMALL) + ["hundred"] + list(SCALES), key=len, reverse=True))
_START = "|".join(sorted(SMALL, key=len, reverse=True))
_RUN = re.compile(rf"(?<![\w'-])(?:(?:{_START})|a (?:hundred|thousand)(?=(?: and)?[ -](?:{_START})\b))(?:[ -](?:and (?=(?:{_START})\b))?(?:{_WORD}|oh)\b)*(?![\w'])", re.I)


def _split(words):
    """A run of number words as the numbers in it: "three thirty" -> [3, 30]. None stands for a minute's "oh"."""
    out, total, part, last, joined = [], 0, None, None, False

    def close():
        nonlocal total, part, last
        if part is not None or total:
            out.append(total + (part or 0))
        total, part, last = 0, None, None

    for w in words:
        if w == "and":
            joined = True
            continue
        if w == "oh":
            close()
            out.append(None)
        elif w == "a":
            part, last = 1, 1
        elif w == "hundred":
            if part is None or part >= 100:
                return None
            part, last = part * 100, 100
        elif w in SCALES:
            if part is None:
                return None
            total, part, last = total + part * SCALES[w], None, SCALES[w]
        else:
            n = SMALL[w]
            fits = last is None or (last >= 100 and n < 100) or (20 <= last < 100 and 0 < n < 10)
            if joined and not (last and last >= 100):
                return None
            if not fits:
                close()
            part, last = (part or 0) + n, n
        joined = False
    close()
    return out


def _plain(n):
    if n >= 10**6 and n % 10**5 == 0:
        unit = "billion" if n >= 10**9 else "million"
        value = f"{n / (10**9 if unit == 'billion' else 10**6):.2f}".rstrip("0").rstrip(".")
        return f"{value} {unit}"
    return f"{n}" if n < 1000 or 2000 < n < 2030 else f"{n:,}"


def _run(m):
    words = re.split(r"[ -]", m[0].lower())
    values = _split(words)
    if not values:
        return m[0]
    if len(values) == 1:
        # "one thousand" on its own is a figure, "nine" is a word
        return m[0] if values[0] < 10 else _plain(values[0])
    if len(values) == 3 and values[1] is None and values[2] is not None and values[2] < 10:
        a, c = values[0], values[2]
        return f"{a}:0{c}" if 1 <= a <= 12 else f"{a}0{c}" if 13 <= a < 21 else m[0]
    if len(values) == 2 and None not in values and 10 <= values[1] <= 99:
        a, b = values
        if 1 <= a <= 12 and b < 60:
            return f"{a}:{b}"
        if 13 <= a <= 20:
            return f"{a}{b}"
    if len(values) >= 3 and None not in values and max(values) < 10:
        return "".join(map(str, values))
    if None in values:
        return m[0]
    return " ".join(str(v) if v > 9 else ONES[v] for v in values)


def _rank(m):
    if m[3]:
        word = m[3].lower()
        n = ORDINALS.index(word) if word in ORDINALS else SMALL[word[:-4] + "y"]
    else:
        n = SMALL[m[1].lower()] + ORDINALS.index(m[2].lower())
    return f"{n}{'th' if 10 < n < 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


_FIGURE = rf"(\d[\d,.]*(?: (?:million|billion))?|{'|'.join(ONES[1:10])})"


def _figure(word):
    return str(SMALL[word.lower()]) if word.lower() in SMALL else word


def written(text):
    """The sentence with its numbers as people write them."""
    days = "|".join(sorted(DAYS, key=len, reverse=True))
    s = re.sub(rf"\b({'|'.join(MONTHS)}) ({days.replace(' ', '[ -]')})\b", lambda m: f"{m[1]} {DAYS[m[2].replace('-', ' ')]}", text)
    s = re.sub(r"\b(nineteen|eighteen|seventeen|sixteen|fifteen) hundred\b(?! (?:and )?\w+ (?:dollars|people))", lambda m: f"{SMALL[m[1].lower()]}00", s, flags=re.I)
    s = re.sub(rf"\b(?:({'|'.join(TENS[2:])})[ -]({'|'.join(ORDINALS[1:10])})|({'|'.join(ORDINALS[11:])}|{'|'.join(t[:-1] + 'ieth' for t in TENS[2:])}))\b", _rank, s, flags=re.I)
    s = _RUN.sub(_run, s)
    s = re.sub(rf"(?<![\w$]){_FIGURE} point ((?:(?:{'|'.join(ONES[:10])})\b ?)+)", lambda m: _figure(m[1]) + "." + "".join(str(SMALL[w]) for w in m[2].lower().split()) + (" " if m[2].endswith(" ") else ""), s, flags=re.I)
    s = re.sub(rf"(?<![\w$-]){_FIGURE} point (\d+)\b", lambda m: f"{_figure(m[1])}.{m[2]}", s, flags=re.I)
    s = re.sub(rf"(?<![\w$-]){_FIGURE}[ -]dollars?\b(?! bill)", lambda m: f"${_figure(m[1])}", s, flags=re.I)
    s = re.sub(rf"(\$\d[\d,]*) and {_FIGURE} cents\b", lambda m: f"{m[1]}.{int(_figure(m[2])):02d}", s, flags=re.I)
    s = re.sub(rf"(?<![\w$-]){_FIGURE} per ?cent\b", lambda m: f"{_figure(m[1])}%", s, flags=re.I)
    return re.sub(rf"(?<![\w$-]){_FIGURE}(?= [ap]\.?m\b)", lambda m: _figure(m[1]), s, flags=re.I)


_ES = dict(zip("diez once doce trece catorce quince dieciséis diecisiete dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho veintinueve".split(), range(10, 30)))
_ES |= {"veintiún": 21, "veintiuna": 21, "cien": 100, "doscientos": 200, "doscientas": 200, "trescientos": 300, "trescientas": 300, "quinientos": 500}
_ES_TENS = dict(zip("treinta cuarenta cincuenta sesenta setenta ochenta noventa".split(), range(30, 100, 10)))
_ES_ONES = {"un": 1, "uno": 1, "una": 1, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5, "seis": 6, "siete": 7, "ocho": 8, "nueve": 9}


def written_spanish(text):
    """Spanish number words from ten to five hundred, the common ones, as figures."""
    ones = "|".join(sorted(_ES_ONES, key=len, reverse=True))
    s = re.sub(rf"\b({'|'.join(_ES_TENS)})(?: y ({ones}))?\b", lambda m: str(_ES_TENS[m[1].lower()] + _ES_ONES.get((m[2] or "").lower(), 0)), text, flags=re.I)
    s = re.sub(rf"\b({'|'.join(_ES)})\b", lambda m: str(_ES[m[1].lower()]), s, flags=re.I)
    return s if not re.search(r"\d+ (?:y \w+ )?(?:mil|millones)\b", s) else text


if __name__ == "__main__":
    for line in (
        "We started in 2013.", "It costs $100,000 a year.", "I can meet you at 2:30.", "Kyoto in 1980.", "I was born on May 21, 1987.", "It was 7:05 a.m. then.",
        "25% of them.", "A hundred and fifty people came.", "One hundred men.", "It's twenty-five past seven.", "Nineteen people.", "$12.50 please.", "It is 3.5 miles.",
        "I have two or three.", "Call 555 now.", "One, two, three, twelve.", "Come at 10 o'clock.", "I saw one hundred and one dogs.", "Seven thirty is fine.", "He lost $2 million.",
        "October 1st is fine.", "2,500 men in 2007.", "The 21st century", "We'll land at 7:00 a.m.", "Twenty one of us", "It took five dollars and 10 cents", "12,345 books", "$1", "1905", "I'm 80.", "No. 9, please", "It rose 5%.", "I need one more.",
    ):
        s = spoken(line)
        print(f"{line:40} {s!s:58} {written(s) if s else None}")
    print(written_spanish("Treinta y dos empleados y quince mil, veintiún años."), written_spanish("Él tiene treinta y dos años y cien gatos."))
