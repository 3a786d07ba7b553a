//! A C program made of the header, which calls every function wrongly in every way that a library can notice.

use std::fmt::Write;

use anyhow::{Result, bail, ensure};

use super::header::{Function, Header, Param};

/// Calls that find nothing where the world has nothing: no word of its texts is known, no line of its dub failed.
const EMPTY: [&str; 4] = ["dub_transcript_word", "dub_line_word", "dub_speeches_word", "dub_result_failed"];

/// What the functions that return something else give, and may be given, is tested by hand.
fn by_hand(function: &Function) -> bool {
    function.returns != "dub_status" || function.name.starts_with("dub_error_")
}

fn is_free(function: &Function) -> bool {
    function.name.ends_with("_free") && function.params.len() == 1
}

/// A good argument, from the world `w`.
fn good(header: &Header, function: &Function, param: &Param) -> Result<String> {
    let at = (function.name.as_str(), param.name.as_str());
    if header.handles.contains(&param.kind) {
        return Ok(format!("w->{}", param.kind.trim_start_matches("dub_")));
    }
    Ok(match (param.kind.as_str(), at) {
        ("const char *", ("dub_audio_save", "path")) => "w->saved".into(),
        ("const char *", (name, "model")) if name.starts_with("dub_translator") => "\"own:translator\"".into(),
        ("const char *", (name, "model")) if name.starts_with("dub_tts") => "\"own:tts\"".into(),
        ("const char *", (_, "model")) => "\"own:stt\"".into(),
        ("const char *", (_, "name")) => "\"own:more\"".into(),
        ("const char *", (_, "path" | "input")) => "w->media".into(),
        ("const char *", (_, "from")) => "\"en\"".into(),
        ("const char *", (_, "to" | "language")) => "\"es\"".into(),
        ("const char *", (_, "out_dir")) => "w->out_dir".into(),
        ("const char *", (_, "folder")) => "w->scratch".into(),
        ("const char *", (_, "stem")) => "\"stem\"".into(),
        ("const char *", (_, "level")) => "\"warn\"".into(),
        ("const char *", (_, "text" | "source" | "target" | "message")) => "\"Hello.\"".into(),
        ("const char *const *", ("dub_benchmark", "options")) => "quick".into(),
        ("const char *const *", (_, "options" | "settings")) => "NULL".into(),
        ("const char *const *", (_, "models")) => "w->models".into(),
        ("const char *const *", (_, "texts")) => "w->texts".into(),
        ("const float *", _) => "w->samples".into(),
        ("const uint8_t *", _) => "w->bytes".into(),
        ("size_t", (_, "length")) => "w->length".into(),
        ("size_t", (name, "count")) if name.contains("audio") => "64".into(),
        ("size_t", (_, "count")) => "2".into(),
        ("size_t", (_, "index" | "segment" | "speech")) => "0".into(),
        ("uint32_t", (_, "rate")) => "16000".into(),
        ("double", (_, "end")) => "1".into(),
        ("double" | "int", _) => "0".into(),
        ("void *", _) => "NULL".into(),
        ("dub_transcribe_fn", _) => "own_transcribe".into(),
        ("dub_translate_fn", _) => "own_translate".into(),
        ("dub_synthesize_fn", _) => "own_synthesize".into(),
        ("dub_progress_fn", _) => "own_progress".into(),
        ("dub_log_fn", _) => "own_log".into(),
        ("dub_destroy_fn", _) => "own_destroy".into(),
        ("dub_error *", _) => "error".into(),
        (_, (_, name)) if param.is_place() => format!("&o_{name}"),
        (kind, (function, name)) => bail!("{function} takes {kind} {name}, which the generator does not know"),
    })
}

/// `name(arguments)`, with some `instead` of the good ones.
fn call(header: &Header, function: &Function, instead: &[(usize, String)], error: &str) -> Result<String> {
    let mut arguments = Vec::new();
    for (i, param) in function.params.iter().enumerate() {
        arguments.push(match instead.iter().find(|(at, _)| *at == i) {
            Some((_, other)) => other.clone(),
            None if param.kind == "dub_error *" => error.to_owned(),
            None => good(header, function, param)?,
        });
    }
    Ok(format!("{}({})", function.name, arguments.join(", ")))
}

/// Declares where results go, filled with what no result is.
fn places(function: &Function) -> (String, String) {
    let (mut declared, mut blank) = (String::new(), String::new());
    for param in function.params.iter().filter(|p| p.is_place()) {
        let _ = writeln!(declared, "    {} o_{};", param.pointee(), param.name);
        let _ = writeln!(declared, "    memset(&o_{0}, 0x55, sizeof o_{0});", param.name);
        let _ = write!(blank, " && blank(&o_{0}, sizeof o_{0})", param.name);
    }
    (declared, blank)
}

/// A program that misuses every function of the header, and counts what it checked.
pub(super) fn program(header: &Header) -> Result<String> {
    let mut out = String::from(MISUSE);
    let mut bodies = Vec::new();
    for (number, function) in header.functions.iter().filter(|f| !by_hand(f)).enumerate() {
        let _ = writeln!(out, "static void f{number}(struct world *w)\n{{");
        match is_free(function) {
            true => freeing(&mut out, function)?,
            false => using(&mut out, header, function)?,
        }
        let _ = writeln!(out, "}}\n");
        let reply = function.params.iter().any(|p| p.kind == "dub_reply");
        bodies.push(match (reply, function.name.as_str()) {
            (false, _) => format!("    f{number}(&w);"),
            (true, "dub_reply_segment") => format!("    in_reply(&w, 's', f{number});"),
            (true, "dub_reply_audio") => format!("    in_reply(&w, 'v', f{number});"),
            (true, _) => format!("    in_reply(&w, 't', f{number});"),
        });
    }
    let _ = writeln!(out, "int main(int argc, char **argv)\n{{\n    struct world w;\n    if (argc != 3)\n        return 2;");
    let _ = writeln!(
        out,
        "    check(taken(dub_job_new(0, NULL, NULL, NULL, &over, NULL)) && taken(dub_job_cancel(over, NULL)), \"over\");"
    );
    for body in &bodies {
        let _ = writeln!(out, "    world_make(&w, argv[1], argv[2]);\n{body}\n    world_free_but(&w, 1);");
    }
    let _ = writeln!(out, "    check(taken(dub_job_free(over)) && dub_handles() == 0, \"every handle is freed\");");
    let tested = bodies.len();
    let _ = writeln!(out, "    printf(\"functions {tested}\\nchecks %d\\n\", checks);\n    return failures == 0 ? 0 : 1;\n}}");
    ensure!(tested + header.functions.iter().filter(|f| by_hand(f)).count() == header.functions.len(), "a function is left out");
    Ok(out)
}

fn freeing(out: &mut String, function: &Function) -> Result<()> {
    let (name, kind) = (&function.name, &function.params[0].kind);
    let field = kind.trim_start_matches("dub_");
    let other = if kind == "dub_job" { "text" } else { "job" };
    let _ = writeln!(
        out,
        r#"    {kind} wrong;
    memset(&wrong, 0, sizeof wrong);
    check({name}(wrong) == DUB_STATUS_OK, "{name}: none");
    memcpy(&wrong, &w->{other}, sizeof wrong);
    check({name}(wrong) == DUB_STATUS_INVALID_ARGUMENT, "{name}: another type");
    wrong.kind = w->{field}.kind;
    check({name}(wrong) == DUB_STATUS_INVALID_ARGUMENT, "{name}: another type that lies");
    memset(&wrong, 0xa5, sizeof wrong);
    check({name}(wrong) == DUB_STATUS_INVALID_ARGUMENT, "{name}: garbage");
    wrong = w->{field};
    check({name}(w->{field}) == DUB_STATUS_OK, "{name}: a live one");
    check({name}(wrong) == DUB_STATUS_INVALID_ARGUMENT, "{name}: twice");
    memset(&w->{field}, 0, sizeof w->{field});"#
    );
    Ok(())
}

/// A call with something wrong, or left out.
struct Try {
    /// Arguments instead of the good ones, by their place.
    instead: Vec<(usize, String)>,
    /// The argument that it is about, and what of it.
    of: String,
    what: String,
    /// Whether it must be refused.
    refused: bool,
}

/// All that can be wrong with a function's arguments, one at a time; `declared` gets what they need.
fn tries(header: &Header, function: &Function, declared: &mut String) -> Vec<Try> {
    let mut tries = Vec::new();
    let count = function.params.iter().position(|p| p.name == "count").unwrap_or(usize::MAX);
    for (at, param) in function.params.iter().enumerate() {
        let of = param.name.as_str();
        let mut add = |instead: &[(usize, &str)], what: &str, refused: bool| {
            let instead = instead.iter().map(|(at, value)| (*at, (*value).to_owned())).collect();
            tries.push(Try { instead, of: of.into(), what: what.into(), refused });
        };
        if param.is_pointer() {
            if function.null_if_empty(param) {
                add(&[(at, "NULL"), (count, "0")], "NULL and 0", false);
            }
            let mut without = vec![(at, "NULL")];
            if (function.name.as_str(), of) == ("dub_benchmark", "options") {
                // Else it would measure the embedded models, several times, which memcheck takes an hour for.
                without.extend(function.params.iter().position(|p| p.name == "job").map(|job| (job, "over")));
            }
            add(&without, "NULL", !function.may_be_null(param));
        }
        match param.kind.as_str() {
            "const char *" => {
                add(&[(at, "not_utf8")], "not UTF-8", true);
                add(&[(at, "cut_utf8")], "UTF-8 that ends too early", true);
            }
            // Behind texts stands how many they are.
            "const char *const *" if count == at + 1 => {
                add(&[(at, "wrong_value"), (count, "2")], "a text that is not UTF-8", true);
                add(&[(at, "no_value"), (count, "2")], "a text that is NULL", true);
                add(&[(count, "SIZE_MAX")], "more than there can be", true);
            }
            "const char *const *" => {
                add(&[(at, "wrong_key")], "a key that is not UTF-8", true);
                add(&[(at, "wrong_value")], "a value that is not UTF-8", true);
                add(&[(at, "no_value")], "a key without a value", true);
                add(&[(at, "no_key")], "a key that is not known", true);
            }
            "size_t" if ["index", "segment", "speech"].contains(&of) => {
                add(&[(at, "SIZE_MAX")], "out of range", true);
                add(&[(at, "1000")], "beyond the last", true);
            }
            "double" => {
                add(&[(at, "(double)NAN")], "no number", true);
                add(&[(at, "-1.0")], "negative", true);
                add(&[(at, "HUGE_VAL")], "without end", true);
            }
            "uint32_t" if of == "rate" => {
                add(&[(at, "0")], "0", true);
                add(&[(at, "UINT32_MAX")], "as high as can be", true);
            }
            kind if header.handles.iter().any(|h| h == kind) => {
                let field = kind.trim_start_matches("dub_");
                let other = if kind == "dub_text" { "job" } else { "text" };
                let _ = writeln!(
                    declared,
                    "    {kind} none_{of} = DUB_NONE({kind}), cast_{of}, lie_{of}, bits_{of}, off_{of};\n    \
                     memcpy(&cast_{of}, &w->{other}, sizeof cast_{of});\n    lie_{of} = cast_{of};\n    \
                     lie_{of}.kind = w->{field}.kind;\n    memset(&bits_{of}, 0xa5, sizeof bits_{of});\n    \
                     off_{of} = w->{field};\n    off_{of}.generation--;"
                );
                add(&[(at, &format!("cast_{of}"))], "of another type", true);
                add(&[(at, &format!("lie_{of}"))], "of another type that lies", true);
                add(&[(at, &format!("bits_{of}"))], "garbage", true);
                add(&[(at, &format!("off_{of}"))], "stale", true);
                add(&[(at, &format!("none_{of}"))], "none", !function.may_be_none(param));
            }
            _ => {}
        }
    }
    tries
}

fn using(out: &mut String, header: &Header, function: &Function) -> Result<()> {
    let name = &function.name;
    let (mut declared, blank) = places(function);
    let tries = tries(header, function, &mut declared);
    let _ = write!(out, "    dub_error *error = w->error;\n{declared}");
    // What is refused changes nothing: the next try finds the same. So what is not comes behind.
    for Try { instead, of, what, .. } in tries.iter().filter(|t| t.refused) {
        let (with, without) = (call(header, function, instead, "error")?, call(header, function, instead, "NULL")?);
        // A rate, or a time, is named by the engine in its own words.
        let named = if ["rate", "start", "end"].contains(&of.as_str()) { "" } else { of };
        let no_place = instead.iter().any(|(at, value)| value == "NULL" && function.params[*at].is_place());
        let left = if no_place { "" } else { &blank };
        let _ = writeln!(
            out,
            "    check(refused({with}, error, \"{named}\"){left}, \"{name}: {of} {what}\");\n    \
             check({without} == DUB_STATUS_INVALID_ARGUMENT, \"{name}: {of} {what}, no error object\");"
        );
    }
    for Try { instead, of, what, .. } in tries.iter().filter(|t| !t.refused) {
        let with = call(header, function, instead, "error")?;
        let _ = writeln!(out, "    check(accepted({with}, error, \"{of}\"), \"{name}: {of} {what}\");");
        drop_results(out, header, function);
    }
    let with = call(header, function, &[], "error")?;
    let outcome = match EMPTY.contains(&name.as_str()) {
        true => format!("refused({with}, error, \"index\")"),
        false => format!("taken({with})"),
    };
    let _ = writeln!(out, "    check({outcome}, \"{name}: as it should be called\");");
    drop_results(out, header, function);
    Ok(())
}

/// Frees what a call gave.
fn drop_results(out: &mut String, header: &Header, function: &Function) {
    for param in function.params.iter().filter(|p| p.is_place() && header.handles.iter().any(|h| h == p.pointee())) {
        let _ = writeln!(out, "    {}_free(o_{});\n    memset(&o_{1}, 0, sizeof o_{1});", param.pointee(), param.name);
    }
}

const MISUSE: &str = r#"/* Generated from dubcore.h: every function, misused. */

#include "world.h"

static const char not_utf8[] = "\xff\xfe";
static const char cut_utf8[] = "caf\xc3";
static const char *const wrong_key[] = {"\xff", "x", NULL};
static const char *const wrong_value[] = {"x", "\xff", NULL};
static const char *const no_value[] = {"x", NULL};
static const char *const no_key[] = {"no such key", "x", NULL};
static const char *const quick[] = {"iterations", "1", "stt", "own:stt", "translator", "own:translator", "tts", "own:tts",
                                    NULL};

static dub_job over; /* cancelled */

static int blank(const void *place, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)place;
    size_t i;
    for (i = 0; i < size; i++)
        if (bytes[i] != 0)
            return 0;
    return 1;
}

/* Whether a call was refused, and the error says of what. */
static int refused(dub_status status, dub_error *error, const char *named)
{
    int told = status == DUB_STATUS_INVALID_ARGUMENT && dub_error_status(error) == status &&
               strcmp(dub_error_kind(error), "invalid_argument") == 0 && strstr(dub_error_message(error), named) != NULL;
    if (!told)
        printf("  status %d, message \"%s\"\n", (int)status, dub_error_message(error));
    return told;
}

/* Whether a call that leaves something out was not refused for that. It may wait, or fail by what it does. */
static int accepted(dub_status status, dub_error *error, const char *named)
{
    int told = status != DUB_STATUS_INVALID_ARGUMENT || strstr(dub_error_message(error), named) == NULL;
    if (!told)
        printf("  status %d, message \"%s\"\n", (int)status, dub_error_message(error));
    return told;
}

static int taken(dub_status status)
{
    if (status != DUB_STATUS_OK)
        printf("  status %d\n", (int)status);
    return status == DUB_STATUS_OK;
}

"#;

#[cfg(test)]
mod tests {
    use super::super::header::parse;
    use super::*;

    #[test]
    fn no_function_is_left_out() {
        let header = parse(include_str!("../../../include/dubcore.h")).unwrap();
        let (misused, random) = (program(&header).unwrap(), super::super::random::program(&header).unwrap());
        for function in header.functions.iter().filter(|f| !by_hand(f)) {
            assert!(misused.contains(&format!("{}(", function.name)) && random.contains(&format!("{}(", function.name)));
        }
    }
}
