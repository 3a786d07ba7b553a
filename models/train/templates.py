"""Sentence pairs made from templates: names, places, numbers, dates, times and prices, which the corpus has too few of.

Both languages share the fillers, so names and figures are copied from one side to the other.
"""

import random
import re

FIRST = """Adam Adrian Agnes Aisha Alan Albert Alex Alice Amanda Amelia Amy Andrea Andrew Angela Anita Anna Anne Anthony Arthur Ava Barbara Beatrice Ben Benjamin
Bella Betty Bianca Bill Bob Brandon Brian Bruce Carl Carla Carlos Carmen Caroline Catherine Cecilia Charles Charlotte Chloe Chris Christina Claire Clara Connor Daisy Dan
Daniel David Deborah Dennis Diana Diego Donna Dorothy Douglas Dylan Edgar Edith Edward Eleanor Elena Eli Elizabeth Ella Ellen Emily Emma Eric Erica Ethan Eva Evan Evelyn
Felix Fiona Frances Francis Frank Fred Gabriel Gary George Gina Gloria Grace Greg Hannah Harold Harry Hassan Heather Hector Helen Henry Holly Howard Hugo Ian Ibrahim Ingrid Irene
Isaac Isabel Ivan Ivy Jack Jackson Jacob James Jamie Jane Janet Jason Jean Jeff Jennifer Jenny Jeremy Jerry Jessica Jim Joan Joe Johanna John Jonathan Jordan Jorge Joseph Joshua
Juan Judith Judy Julia Julian Julie Justin Karen Kate Kathy Keith Kelly Kenneth Kevin Kim Larry Laura Lauren Leo Leon Leonard Leila Liam Lily Linda Lisa Logan Louis Louise Lucas Lucia Lucy
Luis Luke Lynn Mabel Madison Maggie Marcus Margaret Maria Marie Marina Mark Marta Martha Martin Marvin Matthew Max Megan Melissa Michael Michelle Mike Mohammed Molly Monica Nancy Naomi Natalie
Nathan Nicholas Nick Nicole Nina Noah Nora Norman Oliver Olivia Omar Oscar Owen Pablo Pamela Patricia Patrick Paul Paula Pedro Penny Peter Philip Phoebe Priya Rachel Ralph Raymond
Rebecca Richard Rita Robert Robin Roger Ronald Rosa Rose Roy Ruby Russell Ruth Ryan Sally Sam Samantha Samuel Sandra Sarah Scott Sean Sergio Sharon Simon Sofia Sophie Stella Stephen
Steve Stuart Susan Sylvia Tara Ted Teresa Terry Theo Theresa Thomas Tim Tina Todd Tony Tracy Valerie Vanessa Vera Veronica Victor Victoria Vincent Violet Walter Wanda Wayne Wendy William
Yasmin Yusuf Zoe""".split()
LAST = """Adams Allen Anderson Bailey Baker Barnes Bell Bennett Brooks Brown Campbell Carter Clark Coleman Collins Cooper Cox Davis Diaz Edwards Evans Fisher Foster Garcia Gomez Gray
Green Griffin Hall Harris Hayes Henderson Hill Howard Hughes Jackson James Jenkins Johnson Jones Kelly King Lee Lewis Long Lopez Martin Martinez Miller Mitchell Moore Morgan Morris Murphy Nelson
Ortiz Parker Patterson Perez Perry Peterson Phillips Powell Price Ramirez Reed Reyes Richardson Rivera Roberts Robinson Rogers Ross Russell Sanchez Sanders Scott Simmons Smith Stewart Taylor
Thomas Thompson Torres Turner Walker Ward Watson White Williams Wilson Wood Wright Young""".split()
# places whose names are the same in both languages, and the common ones that are not
PLACES = [(p, p) for p in "Boston Chicago Madrid Berlin Paris Oslo Dublin Lima Houston Toronto Sydney Denver Seattle Miami Dallas Buenos_Aires Barcelona Valencia Lisbon Chile Colombia Canada Australia India Portugal Texas California Florida Oxford Cambridge Manchester Liverpool Austin Detroit Phoenix Vienna Roma Venezuela Perú".split()]
PLACES = [(a.replace("_", " "), b.replace("_", " ")) for a, b in PLACES if a not in ("Lisbon", "Vienna", "Roma", "Perú")] + [
    ("London", "Londres"), ("New York", "Nueva York"), ("Lisbon", "Lisboa"), ("Vienna", "Viena"), ("Rome", "Roma"), ("Peru", "Perú"), ("Mexico", "México"), ("Spain", "España"),
    ("France", "Francia"), ("Germany", "Alemania"), ("Italy", "Italia"), ("Japan", "Japón"), ("Brazil", "Brasil"), ("Tokyo", "Tokio"), ("Moscow", "Moscú"), ("Scotland", "Escocia"), ("Egypt", "Egipto"),
]
PLACES += [tuple(p.replace("_", " ").split("/")) for p in """Seville/Sevilla Berlin/Berlín Dublin/Dublín Bogota/Bogotá Cordoba/Córdoba Malaga/Málaga Geneva/Ginebra Prague/Praga
Warsaw/Varsovia Athens/Atenas Florence/Florencia Venice/Venecia Naples/Nápoles Milan/Milán Munich/Múnich Cologne/Colonia Cairo/El_Cairo Jerusalem/Jerusalén Beijing/Pekín Brussels/Bruselas Paris/París
Morocco/Marruecos Greece/Grecia Turkey/Turquía Poland/Polonia Sweden/Suecia Norway/Noruega Finland/Finlandia Denmark/Dinamarca Switzerland/Suiza Ireland/Irlanda England/Inglaterra Russia/Rusia Kenya/Kenia
Panama/Panamá Hungary/Hungría Belgium/Bélgica Austria/Austria Iceland/Islandia Korea/Corea Thailand/Tailandia Algeria/Argelia Tunisia/Túnez Cuba/Cuba Bolivia/Bolivia Ecuador/Ecuador Uruguay/Uruguay
Paraguay/Paraguay Argentina/Argentina China/China Vietnam/Vietnam Nigeria/Nigeria Zaragoza/Zaragoza Bilbao/Bilbao Granada/Granada Toledo/Toledo Salamanca/Salamanca Caracas/Caracas Quito/Quito
Santiago/Santiago Montevideo/Montevideo Murcia/Murcia Alicante/Alicante Burgos/Burgos Segovia/Segovia""".split()]
SPANISH = """Fernando Valeria Sonia Silvia Bruno Miguel Ana Ramón Alejandro Beatriz Rocío Gonzalo Ignacio Lorena Nuria Raúl Adriana Marcos Irene Esteban Tomás Alfonso Pilar Mercedes Rodrigo Inés Álvaro
Gustavo Natalia Emilio Cristina Joaquín Daniela Mateo Clara Nicolás Paloma""".split()
MONTHS = list(zip("January February March April May June July August September October November December".split(), "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split()))
WEEKDAYS = list(zip("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(), "lunes martes miércoles jueves viernes sábado domingo".split()))
PLURALS = [tuple(x.split("/")) for x in "books/libros chairs/sillas students/estudiantes people/personas cars/coches houses/casas apples/manzanas bottles/botellas windows/ventanas trees/árboles tickets/entradas dogs/perros rooms/habitaciones letters/cartas photos/fotos boxes/cajas questions/preguntas pages/páginas friends/amigos cups/tazas workers/trabajadores children/niños towns/pueblos songs/canciones boats/barcos flowers/flores".split()]
UNITS = [tuple(x.split("/")) for x in "minutes/minutos hours/horas days/días weeks/semanas months/meses years/años seconds/segundos".split()]
THINGS = [tuple(x.split("/")) for x in "the book/el libro|this table/esta mesa|the ticket/la entrada|the bicycle/la bicicleta|that shirt/esa camisa|the camera/la cámara|the guitar/la guitarra|dinner/la cena|the room/la habitación|this watch/este reloj|the new phone/el teléfono nuevo|the coat/el abrigo".split("|")]

PAIRS = [tuple(x.strip() for x in line.split("|")) for line in """
My name is {name}.|Me llamo {name}.
My name is {name} {last}.|Me llamo {name} {last}.
Hello, my name is {name} and I am from {place}.|Hola, me llamo {name} y soy de {place'}.
This is {name} {last}.|Este es {name} {last}.
I am {name}, and this is {name2}.|Soy {name}, y este es {name2}.
Have you met {name}?|¿Conoces a {name}?
{name} lives in {place}.|{name} vive en {place'}.
{name} and {name2} live in {place}.|{name} y {name2} viven en {place'}.
{name} went to {place} with {name2}.|{name} fue a {place'} con {name2}.
{name} told {name2} the truth.|{name} le dijo la verdad a {name2}.
{name} is taller than {name2}.|{name} es más alto que {name2}.
I saw {name} and {name2} at the station.|Vi a {name} y a {name2} en la estación.
Welcome to {place}!|¡Bienvenidos a {place'}!
Good morning, {name}.|Buenos días, {name}.
Good evening, Mr. {last}.|Buenas noches, señor {last}.
Mrs. {last} is our new teacher.|La señora {last} es nuestra nueva profesora.
Dr. {last} will see you now.|El doctor {last} le atenderá ahora.
I have an appointment with Dr. {last}.|Tengo una cita con el doctor {last}.
The letter is for Mrs. {last}.|La carta es para la señora {last}.
Good evening, Mrs. {last}.|Buenas noches, señora {last}.
Have you met Mr. {last}?|¿Conoce al señor {last}?
Mr. and Mrs. {last} live next door.|El señor y la señora {last} viven al lado.
Miss {last} is out of the office.|La señorita {last} no está en la oficina.
Please call {name} on {day}.|Por favor, llama a {name} el {day'}.
{name} called me at {time}.|{name} me llamó a las {time}.
The train leaves at {time}.|El tren sale a las {time}.
The train to {place} leaves at {time}.|El tren a {place'} sale a las {time}.
The meeting starts at {time} on {day}.|La reunión empieza a las {time} el {day'}.
It is {time}.|Son las {time}.
Wake me up at {time}, please.|Despiértame a las {time}, por favor.
We open at {time} and close at {time2}.|Abrimos a las {time} y cerramos a las {time2}.
I will be there before {time}.|Estaré allí antes de las {time}.
{thing} costs ${n}.|{Thing'} cuesta {n} dólares.
{thing} cost me ${n}.|{Thing'} me costó {n} dólares.
It costs ${n}.|Cuesta {n} dólares.
I paid ${n} for {thing}.|Pagué {n} dólares por {thing'}.
{name} owes me ${n}.|{name} me debe {n} dólares.
Could you lend me ${n}?|¿Podrías prestarme {n} dólares?
He earns ${big} a year.|Gana {big'} dólares al año.
They sold the house for ${big}.|Vendieron la casa por {big'} dólares.
I have {n} {plural}.|Tengo {n} {plural'}.
There are {n} {plural} here.|Aquí hay {n} {plural'}.
We need {n} more {plural}.|Necesitamos {n} {plural'} más.
{name} bought {n} {plural}.|{name} compró {n} {plural'}.
She counted {n} {plural}.|Ella contó {n} {plural'}.
There were more than {big} {plural} in {place}.|Había más de {big'} {plural'} en {place'}.
About {big} people live in this town.|Unas {big'} personas viven en este pueblo.
The company has {big} workers.|La empresa tiene {big'} trabajadores.
I am {n} years old.|Tengo {n} años.
{name} is {n} years old.|{name} tiene {n} años.
My grandmother turned {n} yesterday.|Mi abuela cumplió {n} años ayer.
Wait {n} {unit}.|Espera {n} {unit'}.
It takes {n} {unit} to get there.|Se tarda {n} {unit'} en llegar.
We waited for {n} {unit}.|Esperamos {n} {unit'}.
I have lived in {place} for {n} {unit}.|Llevo {n} {unit'} viviendo en {place'}.
He will be back in {n} {unit}.|Volverá en {n} {unit'}.
{n} {unit} ago, {name} was here.|Hace {n} {unit'}, {name} estaba aquí.
I was born in {year}.|Nací en {year}.
{name} was born in {place} in {year}.|{name} nació en {place'} en {year}.
The war ended in {year}.|La guerra terminó en {year}.
In {year}, we moved to {place}.|En {year}, nos mudamos a {place'}.
The bridge was built in {year}.|El puente fue construido en {year}.
My birthday is on {month} {date}.|Mi cumpleaños es el {date} de {month'}.
The show is on {day}, {month} {date}.|El espectáculo es el {day'}, {date} de {month'}.
He arrived on {month} {date}, {year}.|Llegó el {date} de {month'} de {year}.
School starts on {month} {date}.|La escuela empieza el {date} de {month'}.
{p}% of the {plural} are new.|El {p} por ciento de los {plural'} son nuevos.
Prices rose by {p}%.|Los precios subieron un {p} por ciento.
Only {p}% of the people voted.|Solo votó el {p} por ciento de la gente.
It is {n} degrees in {place} today.|Hoy hace {n} grados en {place'}.
The answer is {n}.|La respuesta es {n}.
Open the book on page {n}.|Abre el libro en la página {n}.
My room number is {n}.|El número de mi habitación es el {n}.
Take bus number {n}.|Toma el autobús número {n}.
{n} plus {n2} is more than {small}.|{n} más {n2} es más que {small}.
We won {n} to {n2}.|Ganamos {n} a {n2}.
The river is {big} feet long.|El río tiene {big'} pies de largo.
It is {n} kilometers from {place} to {place2}.|Hay {n} kilómetros de {place'} a {place2'}.
The village is {dec} miles from here.|El pueblo está a {dec'} millas de aquí.
She ran {dec} kilometers this morning.|Ella corrió {dec'} kilómetros esta mañana.
Tonight we talk with {name} {last} about {place}.|Esta noche hablamos con {name} {last} sobre {place'}.
Our guest today is {name} {last}.|Nuestro invitado de hoy es {name} {last}.
Thank you, {name}.|Gracias, {name}.
See you on {day}, {name}!|¡Nos vemos el {day'}, {name}!
See you at {time} on {day}.|Nos vemos a las {time} el {day'}.
{name}'s house is near {place}.|La casa de {name} está cerca de {place'}.
{name}'s brother is called {name2}.|El hermano de {name} se llama {name2}.
{name}'s sister works in {place}.|La hermana de {name} trabaja en {place'}.
{name} {last} wrote this song in {year}.|{name} {last} escribió esta canción en {year}.
Did {name} really say that?|¿De verdad dijo eso {name}?
Ask {name} or {name2}.|Pregunta a {name} o a {name2}.
I don't know where {name} is.|No sé dónde está {name}.
I bought {small} tickets for {name}.|Compré {small} entradas para {name}.
We have {n} minutes before the show.|Tenemos {n} minutos antes del espectáculo.
Add {small} cups of water and wait {n} minutes.|Añade {small} tazas de agua y espera {n} minutos.
Cook it for {n} minutes.|Cocínalo durante {n} minutos.
Wait for {n} {unit}.|Espera {n} {unit'}.
Leave it there for {n} {unit}.|Déjalo ahí {n} {unit'}.
I have {few} brothers and {few2} sisters.|Tengo {few} hermanos y {few2} hermanas.
{name} has {few} {plural} and {few2} {plural}.|{name} tiene {few} {plural'} y {few2} {plural'}.
Only {few} {plural} are left.|Solo quedan {few} {plural'}.
There are only {few} {unit} left.|Solo quedan {few} {unit'}.
{name} won by {few} to {few2}.|{name} ganó por {few} a {few2}.
We are in room {few}.|Estamos en la habitación {few}.
Go to platform {few}.|Vaya al andén {few}.
It opens at {time}.|Abre a las {time}.
The shift ends at {time}.|El turno termina a las {time}.
Who is {name}?|¿Quién es {name}?
{name} is not at home.|{name} no está en casa.
{name} is coming with {name2}.|{name} viene con {name2}.
Nobody has seen {name} today.|Nadie ha visto a {name} hoy.
I got a letter from {name}.|Recibí una carta de {name}.
The train to {place} is late.|El tren a {place'} llega tarde.
There is a museum in {place}.|Hay un museo en {place'}.
{place} is bigger than {place2}.|{place'} es más grande que {place2'}.
{name} comes from {place}.|{name} es de {place'}.
The city of {place} is very old.|La ciudad de {place'} es muy antigua.
Is {name} in {place}?|¿Está {name} en {place'}?
When will {name} come back from {place}?|¿Cuándo volverá {name} de {place'}?
""".strip().splitlines()]


_ONSETS = "b br c ch cl d dr f fl g gr h j k l m n p pr r s sh st t th tr v w y z".split() + [""] * 3
_VOWELS = "a e i o u a e i o ai ea ee ia io oa ou".split()
_CODAS = "l n r s t m ck ll nd rt x th d".split() + [""] * 12


def name(r, made_up):
    """A first name; if so many are made up, a name need not be known to be copied."""
    chance = r.random()
    if chance < made_up:
        return invented(r)
    return r.choice(SPANISH) if chance > 0.85 else r.choice(FIRST)


def _letters(names):
    """Which letter follows which three, name by name."""
    follows = {}
    for word in names:
        padded = f"   {word}."
        for i in range(3, len(padded)):
            follows.setdefault(padded[i - 3 : i], []).append(padded[i])
    return follows


_FOLLOWS = _letters(FIRST + LAST + SPANISH + [a for a, b in PLACES if a == b and " " not in a])


def _alike(r):
    """A word spelled like names: letter by letter, as they follow one another there."""
    word = "   "
    while not word.endswith("."):
        word += r.choice(_FOLLOWS[word[-3:]])
    return word[3:-1]


def invented(r):
    """A word that can be said, as a name."""
    if r.random() < 0.6 and 3 < len(word := _alike(r)) < 12:
        return word
    parts = [r.choice(_ONSETS) + r.choice(_VOWELS) + r.choice(_CODAS) for _ in range(r.choice((1, 1, 2, 2, 2)))]
    word = "".join(parts) + r.choice(["", "", "", "a", "o", "son", "ton", "er", "y"])
    return word.capitalize() if len(word) > 2 else invented(r)


def place(r, made_up):
    """A place in both languages; what is made up is the same in both."""
    if r.random() < made_up:
        word = invented(r)
        return word, word
    return r.choice(PLACES)


def _two(choose, *how):
    one = choose(*how)
    while (two := choose(*how)) == one:
        pass
    return one, two


def _figure(n, comma):
    return f"{n:,}".replace(",", comma)


def fillers(r, made_up):
    """Values for every slot, English without and Spanish with the quote mark."""
    (first, first2), (here, there) = _two(name, r, made_up), _two(place, r, made_up)
    big = r.choice([r.randrange(1, 10) * 1000, r.randrange(10, 100) * 100, r.randrange(11, 1000) * 1000, r.randrange(1001, 20000), r.randrange(101, 999)])
    n = r.choice([r.randrange(10, 100)] * 6 + [r.randrange(2, 10)] * 3 + [r.randrange(101, 999), r.randrange(1, 10) * 100, r.randrange(10, 100), r.randrange(11, 20)])
    dec = f"{r.randrange(1, 20)}.{r.randrange(1, 10)}"
    thing, thing_es = r.choice(THINGS)
    plural, unit, month, day = r.choice(PLURALS), r.choice(UNITS), r.choice(MONTHS), r.choice(WEEKDAYS)

    def clock():
        return f"{r.randrange(2, 24)}:{r.choice(['15', '30', '45', '20', '10', '40', '50', '05', '00', f'{r.randrange(1, 60):02d}'])}"

    return {
        "name": first, "name2": first2, "last": invented(r) if r.random() < made_up else r.choice(LAST),
        "place": here[0], "place'": here[1], "place2": there[0], "place2'": there[1],
        "n": str(n), "n2": str(r.randrange(10, 100)), "small": str(r.randrange(2, 30)), "few": str(r.randrange(2, 10)), "few2": str(r.randrange(2, 10)), "p": str(r.choice([r.randrange(10, 100), r.randrange(1, 20) * 5])),
        "big": _figure(big, ","), "big'": _figure(big, "."), "dec": dec, "dec'": dec.replace(".", ","), "year": str(r.choice([r.randrange(1890, 2000), r.randrange(1960, 2026), r.randrange(2001, 2026)])),
        "time": clock(), "time2": clock(), "date": str(r.randrange(2, 32)), "month": month[0], "month'": month[1], "day": day[0], "day'": day[1],
        "thing": thing, "thing'": thing_es, "Thing'": thing_es[:1].upper() + thing_es[1:], "plural": plural[0], "plural'": plural[1], "unit": unit[0], "unit'": unit[1],
    }


_FEMININE_PLURALS = {"sillas", "personas", "casas", "manzanas", "botellas", "ventanas", "entradas", "habitaciones", "cartas", "fotos", "cajas", "preguntas", "páginas", "tazas", "canciones", "flores"}


def pair(r, made_up=0.0):
    """One English and Spanish sentence, with such a part of its names made up."""
    english, spanish = r.choice(PAIRS)
    values = fillers(r, made_up)
    if "los {plural'}" in spanish and values["plural'"] in _FEMININE_PLURALS:
        spanish = spanish.replace("de los", "de las").replace("nuevos", "nuevas")
    for key, value in values.items():
        english, spanish = english.replace("{" + key + "}", value), spanish.replace("{" + key + "}", value)
    return english[:1].upper() + english[1:], spanish


def rename(r, english, spanish=None, made_up=0.0):
    """The sentence (pair) with its Tom or Mary called something else, or None where that cannot be done alike on both sides."""
    changed = False
    for old in ("Tom", "Mary"):
        inside = rf"\b{old}\b"
        if re.search(inside, english) and (spanish is None or len(re.findall(inside, spanish)) == len(re.findall(inside, english))):
            new = name(r, made_up)
            if new in english:
                continue
            english, spanish = re.sub(inside, new, english), spanish and re.sub(inside, new, spanish)
            changed = True
    return (english, spanish) if changed else None


if __name__ == "__main__":
    rng = random.Random(1)
    for _ in range(12):
        print(*pair(rng, 0.4), sep=" | ")
