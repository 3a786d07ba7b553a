//! A C program made of the header, which calls its functions at random, with arguments of which most are good: it only has to
//! come to its end.

use std::fmt::Write;

use anyhow::{Context, Result, bail};

use super::header::{Function, Header};

/// A program that makes so many calls, and prints how many functions it knows, calls it made and handles it left.
pub(super) fn program(header: &Header) -> Result<String> {
    let mut out = String::from(RANDOM);
    let numbers = |kind: &str| header.handles.iter().position(|h| h == kind);
    let count = header.handles.len();
    let reply = numbers("dub_reply").context("the header has no dub_reply")?;
    let _ = writeln!(out, "#define KINDS {count}\n#define REPLY {reply}\nstatic struct pool pools[KINDS];\n");
    let _ = writeln!(out, "static dub_status free_one(int kind, struct bits bits)\n{{\n    switch (kind) {{");
    for (number, kind) in header.handles.iter().enumerate().filter(|(_, kind)| *kind != "dub_reply") {
        let _ = writeln!(
            out,
            "    case {number}: {{\n        {kind} handle;\n        memcpy(&handle, &bits, sizeof handle);\n        \
             return {kind}_free(handle);\n    }}"
        );
    }
    let _ = writeln!(out, "    default:\n        return DUB_STATUS_OK;\n    }}\n}}\n{POOLS}");
    let tried: Vec<_> = header.functions.iter().filter(|f| !f.name.starts_with("dub_error_")).collect();
    for (number, function) in tried.iter().enumerate() {
        let _ = writeln!(out, "static void r{number}(dub_error *error)\n{{");
        let mut arguments = Vec::new();
        let (mut before, mut after) = (String::new(), String::new());
        for (at, param) in function.params.iter().enumerate() {
            let kind = param.kind.as_str();
            arguments.push(if let Some(handle) = numbers(kind) {
                let _ = writeln!(before, "    {kind} a{at};\n    struct bits b{at} = any({handle});");
                let _ = writeln!(after, "    memcpy(&a{at}, &b{at}, sizeof a{at});");
                if kind == "dub_job" {
                    let _ = writeln!(after, "    if (depth > 0 || b{at}.kind == 0)\n        a{at} = brief;");
                }
                format!("a{at}")
            } else if param.is_place() {
                let _ = writeln!(before, "    {0} o{at};\n    {0} *p{at} = one_in(40) ? NULL : &o{at};", param.pointee());
                format!("p{at}")
            } else {
                match kind {
                    "const char *" if ["out_dir", "folder"].contains(&param.name.as_str()) => "one_in(8) ? any_text() : scratch",
                    "const char *" if param.name == "to" => "one_in(4) ? any_text() : \"es\"",
                    "const char *" if param.name == "level" => "one_in(4) ? any_text() : \"warn\"",
                    "const char *" if param.name == "name" => "any_name()",
                    "const char *" if param.name == "model" => "one_in(4) ? any_text() : any_name()",
                    "const char *" if function.name == "dub_audio_save" => "one_in(8) ? \"no/such/place.wav\" : \"random.wav\"",
                    "const char *" => "any_text()",
                    "const char *const *" if param.name == "texts" || param.name == "models" => "any_list()",
                    "const char *const *" => "any_options()",
                    "const float *" => "one_in(20) ? NULL : noise",
                    "const uint8_t *" => "one_in(20) ? NULL : bytes",
                    "size_t" if param.name == "length" => "length_of_bytes()",
                    "size_t" if param.name == "count" => "below(4)",
                    "size_t" => "one_in(20) ? SIZE_MAX : below(3)",
                    "uint32_t" => "any_rate()",
                    "double" if function.name == "dub_job_new" => "one_in(4) ? any_double() : 0.05",
                    "double" => "any_double()",
                    "int" => "(int)below(2)",
                    "void *" => "NULL",
                    "dub_transcribe_fn" => "one_in(20) ? NULL : random_transcribe",
                    "dub_translate_fn" => "one_in(20) ? NULL : random_translate",
                    "dub_synthesize_fn" => "one_in(20) ? NULL : random_synthesize",
                    "dub_progress_fn" => "one_in(3) ? NULL : random_progress",
                    "dub_log_fn" => "one_in(3) ? NULL : random_log",
                    "dub_destroy_fn" => "one_in(3) ? NULL : own_destroy",
                    "dub_error *" => "one_in(4) ? NULL : error",
                    other => bail!("{} takes {other}, which the generator does not know", function.name),
                }
                .to_owned()
            });
        }
        let brief = after.contains("brief");
        let _ = write!(out, "{before}{}", if brief { "    dub_job brief = DUB_NONE(dub_job);\n" } else { "" });
        if brief {
            let _ = writeln!(out, "    dub_job_new(0.02, NULL, NULL, NULL, &brief, NULL);");
        }
        let _ = writeln!(out, "{after}    (void)error;");
        let with = format!("{}({})", function.name, arguments.join(", "));
        // What comes back is kept, to be used by the calls that follow.
        let given: Vec<_> = function.params.iter().enumerate().filter(|(_, p)| p.is_place()).collect();
        let kept: Vec<_> = given.iter().filter_map(|(at, p)| numbers(p.pointee()).map(|kind| (at, kind))).collect();
        match kept.is_empty() {
            true => drop(writeln!(out, "    (void){with};")),
            false => {
                let _ = writeln!(out, "    if ({with} == DUB_STATUS_OK) {{");
                for (at, kind) in kept {
                    let _ = writeln!(out, "        if (p{at} != NULL)\n            keep({kind}, &o{at});");
                }
                let _ = writeln!(out, "    }}");
            }
        }
        if brief {
            let _ = writeln!(out, "    dub_job_free(brief);");
        }
        let _ = writeln!(out, "}}\n");
    }
    // What takes a job may take long, and so does what makes a factory.
    let rare = |f: &Function| f.params.iter().any(|p| p.kind == "dub_job") || f.name == "dub_file" || f.name == "dub_factory_new";
    let _ = writeln!(out, "static const struct function functions[] = {{");
    for (number, function) in tried.iter().enumerate() {
        let _ = writeln!(out, "    {{r{number}, {}}},", i32::from(rare(function)));
    }
    let _ = writeln!(out, "}};\n\nstatic void refill(void)\n{{\n    struct world w;\n    world_make(&w, media, scratch);");
    for (number, kind) in header.handles.iter().enumerate().filter(|(number, _)| *number != reply) {
        let _ = writeln!(out, "    keep({number}, &w.{});", kind.trim_start_matches("dub_"));
    }
    let _ = writeln!(out, "    dub_error_free(w.error);\n}}\n{RANDOM_MAIN}");
    Ok(out)
}

const RANDOM: &str = r#"/* Generated from dubcore.h: every function, at random. */

#include "world.h"

struct bits {
    uint32_t slot, generation, kind;
};

/* Handles of one type: live ones, and ones that were. */
struct pool {
    struct bits all[16];
    size_t used;
};

struct function {
    void (*call)(dub_error *error);
    int rare;
};

static uint64_t seed;
static int depth;
static const char *scratch, *media;
static unsigned char bytes[1 << 20];
static size_t length;
static float noise[4];

static size_t below(size_t bound)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)((seed >> 11) % bound);
}

static int one_in(size_t n)
{
    return below(n) == 0;
}

"#;

const POOLS: &str = r#"
static struct bits any(int kind)
{
    struct bits none = {0, 0, 0};
    if (one_in(30))
        kind = (int)below(KINDS);
    if (one_in(30))
        return none;
    if (one_in(60)) {
        none.slot = (uint32_t)below(80);
        none.generation = (uint32_t)below(1000);
        none.kind = (uint32_t)below(KINDS + 2);
        return none;
    }
    if (pools[kind].used == 0)
        return none;
    return pools[kind].all[below(pools[kind].used)];
}

static void keep(int kind, const void *handle)
{
    struct bits bits;
    size_t at;
    memcpy(&bits, handle, sizeof bits);
    if (pools[kind].used < 16) {
        pools[kind].all[pools[kind].used++] = bits;
        return;
    }
    at = below(16);
    free_one(kind, pools[kind].all[at]);
    pools[kind].all[at] = bits;
}

static const char *any_name(void)
{
    static const char *const names[] = {"own:a", "own:b", "own:stt", "own:translator", "own:tts"};
    return names[below(5)];
}

static const char *any_text(void)
{
    static const char *const texts[] = {"",   "en", "es",      "Hello.",      "own:stt", "micro/stt-en", "../..", "\xff", "caf\xc3\xa9",
                                        "no/such", "warn", "own:translator", "own:tts"};
    size_t at = below(15);
    return at == 13 ? NULL : at == 14 ? media : texts[at];
}

static const char *const *any_list(void)
{
    static const char *list[4];
    size_t i;
    for (i = 0; i < 4; i++)
        list[i] = any_text();
    return one_in(20) ? NULL : list;
}

static const char *const *any_options(void)
{
    static const char *const lists[][5] = {{"from", "en", "keep", "true", NULL},
                                           {"beams", "1", NULL, NULL, NULL},
                                           {"results", "true", "max_models", "2", NULL},
                                           {"format", "f32", NULL, NULL, NULL},
                                           {"stt", "own:stt", NULL, NULL, NULL},
                                           {"beams", NULL, NULL, NULL, NULL},
                                           {"no such key", "1", NULL, NULL, NULL},
                                           {"seed", "x", NULL, NULL, NULL}};
    return below(2) ? NULL : lists[below(8)];
}

static size_t length_of_bytes(void)
{
    return one_in(3) ? length : below(length);
}

static uint32_t any_rate(void)
{
    static const uint32_t rates[] = {16000, 8000, 44100, 0, 1, 999, UINT32_MAX};
    return rates[below(7)];
}

static double any_double(void)
{
    static const double values[] = {0, 0.5, 1, 2, -1, 1e300, 1e-9};
    size_t at = below(9);
    return at == 7 ? (double)NAN : at == 8 ? HUGE_VAL : values[at];
}

static void some(void);

static int32_t random_transcribe(void *user, dub_reply reply, const float *samples, size_t count, uint32_t rate,
                                 const char *language)
{
    keep(REPLY, &reply);
    some();
    return one_in(4) ? (int32_t)below(30) : own_transcribe(user, reply, samples, count, rate, language);
}

static int32_t random_translate(void *user, dub_reply reply, const char *text, const char *from, const char *to)
{
    keep(REPLY, &reply);
    some();
    return one_in(4) ? (int32_t)below(30) : own_translate(user, reply, text, from, to);
}

static int32_t random_synthesize(void *user, dub_reply reply, const char *text, const char *language, double rate,
                                 size_t speaker)
{
    keep(REPLY, &reply);
    some();
    return one_in(4) ? (int32_t)below(30) : own_synthesize(user, reply, text, language, rate, speaker);
}

static int32_t random_progress(void *user, double fraction)
{
    (void)user;
    (void)fraction;
    return one_in(50);
}

static void random_log(void *user, const char *level, const char *target, const char *message)
{
    own_log(user, level, target, message);
}
"#;

const RANDOM_MAIN: &str = r#"
/* Of calls that may take long, one in so many that come up is made. */
#define RARE 50
#define FUNCTIONS (sizeof functions / sizeof *functions)

static dub_error *shared;
static size_t calls;

static void step(void)
{
    const struct function *function = &functions[below(FUNCTIONS)];
    if (function->rare && !one_in(RARE))
        return;
    function->call(shared);
    calls++;
}

/* What a callback does besides answering. Callbacks come on one thread at a time here, for calls are made on one. */
static void some(void)
{
    size_t i;
    if (depth > 1)
        return;
    depth++;
    for (i = below(4); i > 0; i--)
        step();
    depth--;
}

int main(int argc, char **argv)
{
    FILE *in;
    size_t wanted, full = 0;
    int kind;

    if (argc != 5)
        return 2;
    media = argv[1];
    scratch = argv[2];
    wanted = (size_t)strtoul(argv[3], NULL, 10);
    seed = strtoul(argv[4], NULL, 10) * 2654435761u + 88172645463325252u;
    in = fopen(media, "rb");
    if (in == NULL)
        return 3;
    length = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    shared = dub_error_new();
    while (calls < wanted) {
        /* New ones now and then, for most things are made of others, and all are freed in the end. */
        if (calls >= full) {
            refill();
            full += 1000;
        }
        step();
    }
    for (kind = 0; kind < KINDS; kind++)
        while (pools[kind].used > 0)
            free_one(kind, pools[kind].all[--pools[kind].used]);
    dub_log(NULL, NULL, NULL, NULL, NULL);
    dub_error_free(shared);
    printf("functions %d\ncalls %d\nhandles %d\n", (int)FUNCTIONS, (int)calls, (int)dub_handles());
    return dub_handles() == 0 ? 0 : 1;
}
"#;
