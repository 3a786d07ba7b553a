//! Subtitles: lines of text with their times, to SubRip (SRT) and WebVTT, and back from SubRip after somebody edited it.

use std::fmt::Write;
use std::time::Duration;

use crate::audio::Span;
use crate::error::{Error, ErrorKind, Result};

/// Most characters of a subtitle's line, where words permit. What does not fit on two lines gets more.
const WIDTH: usize = 42;

/// Writes SubRip. Times are rounded to the nearest millisecond; text is wrapped to lines of at most 42 characters, of
/// similar length; cues without text are left out. SubRip has no escapes, so `-->` inside text becomes `→`.
///
/// # Errors
/// `InvalidArgument` for cues that overlap or are not in order of time.
pub fn srt(cues: &[(Span, String)]) -> Result<String> {
    let mut out = String::new();
    for (i, (span, lines)) in prepare(cues)?.enumerate() {
        let text = lines.join("\n").replace("-->", "→");
        let (start, end) = (clock(span.start, ','), clock(span.end, ','));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}\n{start} --> {end}\n{text}\n", i + 1);
    }
    Ok(out)
}

/// Writes WebVTT, as [`srt`] does; `&`, `<` and `>` are escaped.
///
/// # Errors
/// `InvalidArgument` for cues that overlap or are not in order of time.
pub fn vtt(cues: &[(Span, String)]) -> Result<String> {
    let mut out = String::from("WEBVTT\n\n");
    for (span, lines) in prepare(cues)? {
        let text = lines.join("\n").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(out, "{} --> {}\n{text}\n", clock(span.start, '.'), clock(span.end, '.'));
    }
    Ok(out)
}

/// Reads SubRip: cues in order of time, the lines of each joined by a space. Taken as people and programs write it: any
/// line ends, a byte order mark, missing numbers, `.` for `,`, positions behind the times; formatting tags are dropped. A
/// cue may be empty.
///
/// # Errors
/// `CorruptMedia`, naming the line, for anything else, also for cues that end before they begin, overlap, or are out of
/// order.
pub fn parse_srt(text: &str) -> Result<Vec<(Span, String)>> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let mut cues: Vec<(Span, String)> = Vec::new();
    let mut block = Vec::new();
    // A blank line at the end closes the last block.
    for (number, line) in (1..).zip(text.lines().chain([""])) {
        if !line.trim().is_empty() {
            block.push((number, line.trim()));
        } else if let Some((span, text)) = parse_block(&block)? {
            if cues.last().is_some_and(|(last, _)| span.start < last.end) {
                return Err(corrupt(block[0].0, "the cue begins before the one before it ends"));
            }
            cues.push((span, text));
            block.clear();
        }
    }
    Ok(cues)
}

fn parse_block(block: &[(usize, &str)]) -> Result<Option<(Span, String)>> {
    let Some((number, first)) = block.first() else { return Ok(None) };
    let is_number = first.chars().all(|c| c.is_ascii_digit());
    let (times, text) = if is_number { (block.get(1), block.get(2..)) } else { (block.first(), block.get(1..)) };
    let &(number, times) = times.ok_or_else(|| corrupt(*number, "times such as 00:00:01,500 --> 00:00:03,000 must follow"))?;
    let (start, end) = times.split_once("-->").ok_or_else(|| corrupt(number, "expected times: 00:00:01,500 --> 00:00:03,000"))?;
    // Old programs write screen positions behind the times.
    let end = end.split_whitespace().next().unwrap_or_default();
    let time =
        |t: &str| parse_clock(t.trim()).ok_or_else(|| corrupt(number, &format!("{t:?} is not a time such as 00:00:01,500")));
    let (start, end) = (time(start)?, time(end)?);
    if end < start {
        return Err(corrupt(number, "the cue ends before it begins"));
    }
    let lines: Vec<String> = text.unwrap_or_default().iter().map(|(_, line)| without_tags(line)).collect();
    Ok(Some((Span::new(start, end), lines.join(" ").trim().to_owned())))
}

fn corrupt(line: usize, what: &str) -> Error {
    Error::new(ErrorKind::CorruptMedia, format!("subtitles, line {line}: {what}"))
}

/// `[hours:]minutes:seconds[,milliseconds]`.
fn parse_clock(text: &str) -> Option<Duration> {
    let number = |t: &str| if t.chars().all(|c| c.is_ascii_digit()) { t.parse::<u64>().ok() } else { None };
    let (whole, fraction) = text.split_once([',', '.']).unwrap_or((text, "0"));
    let parts: Vec<u64> = whole.split(':').map(number).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match parts[..] {
        [h, m, s] => (h, m, s),
        [m, s] => (0, m, s),
        _ => return None,
    };
    if minutes > 59 || seconds > 59 || fraction.len() > 3 {
        return None;
    }
    let millis = number(fraction)? * 10u64.pow(3 - fraction.len() as u32);
    let total = hours.checked_mul(3_600)?.checked_add(minutes * 60 + seconds)?.checked_mul(1_000)?.checked_add(millis)?;
    Some(Duration::from_millis(total))
}

/// Drops `<i>`, `</b>`, `<font ...>` and `{\an8}`; other angle brackets are text.
fn without_tags(line: &str) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some(at) = rest.find(['<', '{']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let inside = &rest[1..];
        let close = if rest.starts_with('<') { '>' } else { '}' };
        match inside.find(close) {
            Some(end) if is_tag(&inside[..end], close) => rest = &inside[end + 1..],
            _ => {
                out.push_str(&rest[..1]);
                rest = inside;
            }
        }
    }
    out + rest
}

fn is_tag(inside: &str, close: char) -> bool {
    let name = inside.trim_start_matches('/').split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if close == '}' { inside.starts_with('\\') } else { ["i", "b", "u", "s", "font"].contains(&name.as_str()) }
}

/// The cues that have text, wrapped.
fn prepare(cues: &[(Span, String)]) -> Result<impl Iterator<Item = (Span, Vec<String>)>> {
    if let Some(i) = cues.windows(2).position(|pair| pair[1].0.start < pair[0].0.end) {
        return Err(Error::argument(format!("subtitle {} begins before the one before it ends", i + 2)));
    }
    Ok(cues.iter().map(|(span, text)| (*span, wrap(text))).filter(|(_, lines)| !lines.is_empty()))
}

/// `hours:minutes:seconds` and milliseconds, at least two digits of hours.
fn clock(time: Duration, point: char) -> String {
    let millis = (time.as_nanos() + 500_000) / 1_000_000;
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    format!("{:02}:{:02}:{:02}{point}{millis:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// As few lines as the width allows, then as narrow as that number of lines allows: lines of similar length.
fn wrap(text: &str) -> Vec<String> {
    // Control characters break lines, or readers.
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let lines = fill(&words, WIDTH);
    (1..WIDTH).map(|width| fill(&words, width)).find(|narrow| narrow.len() <= lines.len()).unwrap_or(lines)
}

fn fill(words: &[&str], width: usize) -> Vec<String> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for word in words {
        let length = word.chars().count();
        match lines.last_mut() {
            Some((used, line)) if *used + 1 + length <= width => {
                line.push(' ');
                line.push_str(word);
                *used += 1 + length;
            }
            _ => lines.extend(pieces(word, width)),
        }
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

/// A word, or the parts of one longer than any line: text without spaces.
fn pieces(word: &str, width: usize) -> impl Iterator<Item = (usize, String)> {
    let letters: Vec<char> = word.chars().collect();
    let size = if letters.len() > WIDTH { width } else { letters.len().max(1) };
    letters.chunks(size).map(|part| (part.len(), part.iter().collect())).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cue(from: f64, to: f64, text: &str) -> (Span, String) {
        (Span::new(Duration::from_secs_f64(from), Duration::from_secs_f64(to)), text.to_owned())
    }

    #[test]
    fn srt_is_written() {
        let cues = [
            cue(0.0, 1.4996, "Hello --> you & <me>"),
            cue(1.5, 2.0, " \n "),
            cue(360_000.0 - 0.0004, 360_001.0, "Late\n\nline\0two"),
        ];
        let want =
            "1\n00:00:00,000 --> 00:00:01,500\nHello → you & <me>\n\n2\n100:00:00,000 --> 100:00:01,000\nLate line two\n\n";
        assert_eq!(srt(&cues).unwrap(), want);
    }

    #[test]
    fn vtt_is_escaped() {
        let want = "WEBVTT\n\n00:00:01.000 --> 00:00:02.250\nA &lt;b&gt; &amp;amp; --&gt; c\n\n";
        assert_eq!(vtt(&[cue(1.0, 2.25, "A <b> &amp; --> c")]).unwrap(), want);
    }

    #[test]
    fn order_is_checked() {
        for cues in [[cue(1.0, 2.0, "a"), cue(1.9, 3.0, "b")], [cue(5.0, 6.0, "a"), cue(1.0, 2.0, "b")]] {
            assert_eq!(srt(&cues).unwrap_err().kind(), ErrorKind::InvalidArgument);
            assert_eq!(vtt(&cues).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        assert!(srt(&[cue(1.0, 2.0, "a"), cue(2.0, 3.0, "b")]).is_ok());
        assert_eq!(srt(&[]).unwrap(), "");
    }

    #[test]
    fn text_is_wrapped_evenly() {
        assert_eq!(wrap("Short enough for a single line"), ["Short enough for a single line"]);
        let two = wrap("The old ferry crosses the river every hour until the lamps go out");
        assert_eq!(two, ["The old ferry crosses the river", "every hour until the lamps go out"]);
        let long = "word ".repeat(60);
        assert!(wrap(&long).iter().all(|l| l.len() <= WIDTH) && wrap(&long).len() == 8);
        let chinese = "字".repeat(100);
        assert_eq!(wrap(&chinese).iter().map(|l| l.chars().count()).collect::<Vec<_>>(), [34, 34, 32]);
        let url = format!("see {}", "x".repeat(42));
        assert_eq!(wrap(&url).len(), 2);
    }

    #[test]
    fn srt_comes_back() {
        let cues = vec![
            cue(0.0, 1.5, "One"),
            cue(1.5, 3.0, "A sentence that is long enough to be wrapped to two lines"),
            cue(400_000.0, 400_001.0, "Ñandú ¿no?"),
        ];
        assert_eq!(parse_srt(&srt(&cues).unwrap()).unwrap(), cues);
    }

    #[test]
    fn srt_as_people_write_it() {
        let text = "\u{feff}\r\n1\r\n0:00:01.5 --> 00:00:02,000 X1:1 X2:2\r\n<i>One</i> {\\an8}two\r\n<font color=\"red\">three</font> 1 < 2\r\n\r\n\r\n00:03 --> 00:04\r\nno number\r\n\r\n3\r\n00:00:05,000-->00:00:06,000";
        let want = [cue(1.5, 2.0, "One two three 1 < 2"), cue(3.0, 4.0, "no number"), cue(5.0, 6.0, "")];
        assert_eq!(parse_srt(text).unwrap(), want);
        assert_eq!(parse_srt("").unwrap(), []);
        assert_eq!(parse_srt("1\r00:00:01,000 --> 00:00:02,000\ra\r\r").unwrap(), [cue(1.0, 2.0, "a")]);
    }

    #[test]
    fn errors_name_the_line() {
        let good = "1\n00:00:01,000 --> 00:00:02,000\na\n\n";
        for (bad, line) in [
            ("2\n", 5),
            ("hello\n", 5),
            ("2\nhello\n", 6),
            ("2\n00:00:03,000 --> \n", 6),
            ("2\n00:00:03,000 --> 00:61:04,000\n", 6),
            ("2\n00:00:03,0000 --> 00:00:04,000\n", 6),
            ("2\n+0:00:03,000 --> 00:00:04,000\n", 6),
            ("2\n99999999999999999999:00:03,000 --> 00:00:04,000\n", 6),
            ("2\n9999999999999999999:00:03,000 --> 00:00:04,000\n", 6),
            ("2\n00:00:04,000 --> 00:00:03,000\n", 6),
            ("2\n00:00:01,500 --> 00:00:03,000\n", 5),
            ("2\n００:00:03,000 --> 00:00:04,000\n", 6),
        ] {
            let e = parse_srt(&format!("{good}{bad}")).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::CorruptMedia, "{bad:?}");
            assert!(e.to_string().contains(&format!("line {line}:")), "{bad:?}: {e}");
        }
    }

    #[test]
    fn hostile_text_does_no_harm() {
        let cues: Vec<_> = (0..6).map(|i| cue(f64::from(i), f64::from(i) + 0.9, "<i>Año {\\b} uno</i> --> 2")).collect();
        let good: Vec<char> = srt(&cues).unwrap().chars().collect();
        let spice: Vec<char> = "0:9,.->\n\r <>{}\\\u{feff}é字\0/i".chars().collect();
        let mut state = 1u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for _ in 0..3_000 {
            let mut text = good.clone();
            for _ in 0..1 + random(8) {
                let at = random(text.len());
                match random(3) {
                    0 => text[at] = spice[random(spice.len())],
                    1 => text.insert(at, spice[random(spice.len())]),
                    _ => drop(text.drain(at..(at + random(20)).min(text.len()))),
                }
            }
            // Whatever is accepted can be written again.
            if let Ok(cues) = parse_srt(&text.iter().collect::<String>()) {
                srt(&cues).unwrap();
                vtt(&cues).unwrap();
            }
        }
    }
}
