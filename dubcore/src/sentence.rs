//! Sentences from a recogniser's fragments: translators and voices do better with whole sentences. Fragments are joined
//! until a sentence ends, a pause comes, or they become too long; a fragment of several sentences is taken apart.

use std::time::Duration;

use crate::audio::Span;
use crate::lang::Lang;
use crate::stage::{Segment, Word};

/// When fragments belong together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MergeOptions {
    /// A longer pause ends a line.
    pub(crate) max_gap: Duration,
    /// Nothing is joined beyond this length,
    pub(crate) max_len: Duration,
    /// nor beyond this number of characters.
    pub(crate) max_chars: usize,
    /// Without word times the place of a sentence inside a fragment is a guess, made only for longer ones.
    pub(crate) guess_len: Duration,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            max_gap: Duration::from_millis(800),
            max_len: Duration::from_secs(12),
            max_chars: 200,
            guess_len: Duration::from_secs(8),
        }
    }
}

/// Takes fragments in order of time, gives lines as soon as they are complete.
pub(crate) struct Merger {
    lang: Lang,
    opts: MergeOptions,
    pending: Option<Segment>,
}

impl Merger {
    /// For text in `lang`, whose abbreviations and sentence marks count.
    pub(crate) fn new(lang: Lang, opts: MergeOptions) -> Self {
        Self { lang, opts, pending: None }
    }

    /// Takes the next fragment; returns the lines that are complete. A fragment without text is dropped.
    pub(crate) fn push(&mut self, segment: Segment) -> Vec<Segment> {
        let mut out = Vec::new();
        for piece in self.split(segment) {
            let next = match self.pending.take() {
                Some(last) if self.belong(&last, &piece) => join(last, piece),
                last => {
                    out.extend(last);
                    piece
                }
            };
            if self.ends_sentence(&next.text) { out.push(next) } else { self.pending = Some(next) }
        }
        out
    }

    /// Returns the last line, if it is not complete.
    pub(crate) fn flush(&mut self) -> Option<Segment> {
        self.pending.take()
    }

    /// When the line that is not complete begins.
    pub(crate) fn pending(&self) -> Option<Duration> {
        self.pending.as_ref().map(|p| p.span.start)
    }

    fn belong(&self, last: &Segment, next: &Segment) -> bool {
        next.span.start.saturating_sub(last.span.end) <= self.opts.max_gap
            && next.span.end.saturating_sub(last.span.start) <= self.opts.max_len
            && last.text.chars().count() + 1 + next.text.chars().count() <= self.opts.max_chars
    }

    /// Whether a name that followed would begin a new sentence: after `p.m.` or `ended.` it does, after `Dr.` not.
    fn ends_sentence(&self, text: &str) -> bool {
        let followed = format!("{text} Xavier");
        let sentences = sentences(self.lang, &followed);
        sentences.len() > 1 && sentences.last().is_some_and(|s| s.trim() == "Xavier")
    }

    fn split(&self, mut segment: Segment) -> Vec<Segment> {
        segment.text = segment.text.trim().to_owned();
        if segment.text.is_empty() {
            return Vec::new();
        }
        let sentences = sentences(self.lang, &segment.text);
        if sentences.len() < 2 {
            return vec![segment];
        }
        let by_words = || split_by_words(&segment, &sentences);
        let by_length = || (segment.span.duration() > self.opts.guess_len).then(|| split_by_length(&segment, &sentences));
        by_words().or_else(by_length).unwrap_or_else(|| vec![segment.clone()])
    }
}

/// The sentences of `text`, trimmed; the text itself where none is found.
pub(crate) fn sentences_of(lang: Lang, text: &str) -> Vec<String> {
    let found: Vec<String> = sentences(lang, text).iter().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect();
    if found.is_empty() { vec![text.to_owned()] } else { found }
}

/// The sentences of `text`, which they make up without a gap.
fn sentences(lang: Lang, text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for piece in sentencex::segment(lang.code(), text) {
        match out.last_mut() {
            // A point inside a word (n.º) ends nothing, except in scripts that set no spaces.
            Some(last) if !last.ends_with(|c: char| c.is_whitespace() || is_wide(c)) => last.push_str(piece),
            _ => out.push(piece.to_owned()),
        }
    }
    out
}

/// Chinese and Japanese, which set no spaces between words.
fn is_wide(c: char) -> bool {
    matches!(c, '\u{3000}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ff00}'..='\u{ffef}')
}

fn join(mut last: Segment, next: Segment) -> Segment {
    let letters = |s: &Segment| s.text.chars().count() as f64;
    let (a, b) = (letters(&last), letters(&next));
    last.avg_logprob = match (last.avg_logprob, next.avg_logprob) {
        (Some(x), Some(y)) => Some((x * a + y * b) / (a + b)),
        (x, y) => x.or(y),
    };
    if !last.text.ends_with(is_wide) || !next.text.starts_with(is_wide) {
        last.text.push(' ');
    }
    last.text.push_str(&next.text);
    // Half of the word times would be mistaken for all of them.
    if last.words.is_empty() || next.words.is_empty() {
        last.words.clear()
    } else {
        last.words.extend(next.words)
    }
    last.span.end = last.span.end.max(next.span.end);
    last
}

fn part(whole: &Segment, text: &str, span: Span, words: Vec<Word>) -> Segment {
    let mut part = Segment::new(span, text.trim());
    (part.words, part.avg_logprob) = (words, whole.avg_logprob);
    part
}

fn ink(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

/// Gives each sentence its words; `None` where words and text do not agree.
fn split_by_words(segment: &Segment, sentences: &[String]) -> Option<Vec<Segment>> {
    let (mut words, mut out) = (segment.words.iter().peekable(), Vec::new());
    let mut start = segment.span.start;
    for sentence in sentences {
        let (mut missing, mut own) = (ink(sentence), Vec::new());
        while missing > 0 {
            let word = words.next()?;
            missing = missing.checked_sub(ink(&word.text))?;
            own.push(word.clone());
        }
        let end = words.peek().map_or(segment.span.end, |_| own.last().map_or(start, |w| w.span.end));
        out.push(part(segment, sentence, Span::new(start, end), own));
        start = words.peek().map_or(end, |next| next.span.start.max(end));
    }
    words.peek().is_none().then_some(out)
}

/// Gives each sentence its share of the time by its characters.
fn split_by_length(segment: &Segment, sentences: &[String]) -> Vec<Segment> {
    let total = sentences.iter().map(|s| ink(s)).sum::<usize>().max(1) as f64;
    let (mut done, mut start, mut out) = (0, segment.span.start, Vec::new());
    for sentence in sentences {
        done += ink(sentence);
        let end = segment.span.start + segment.span.duration().mul_f64(done as f64 / total);
        out.push(part(segment, sentence, Span::new(start, end), Vec::new()));
        start = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(from: f64, to: f64) -> Span {
        Span::new(Duration::from_secs_f64(from), Duration::from_secs_f64(to))
    }

    fn merged(lang: Lang, segments: &[Segment]) -> Vec<Segment> {
        let mut merger = Merger::new(lang, MergeOptions::default());
        let mut out: Vec<Segment> = segments.iter().flat_map(|s| merger.push(s.clone())).collect();
        out.extend(merger.flush());
        out
    }

    /// Fragments of two seconds, half a second apart.
    fn texts(lang: Lang, texts: &[&str]) -> Vec<String> {
        let fragment = |(i, t): (usize, &&str)| Segment::new(at(i as f64 * 2.5, i as f64 * 2.5 + 2.0), *t);
        merged(lang, &texts.iter().enumerate().map(fragment).collect::<Vec<_>>()).into_iter().map(|s| s.text).collect()
    }

    #[test]
    fn joins_until_a_sentence_ends() {
        let en = |t: &[&str]| texts(Lang::EN, t);
        assert_eq!(en(&["The rain", "stopped at noon.", "We left."]), ["The rain stopped at noon.", "We left."]);
        assert_eq!(en(&["Ask Dr.", "Brown about it!", "Why?"]), ["Ask Dr. Brown about it!", "Why?"]);
        assert_eq!(en(&["It costs 3.", "5 pounds."]), ["It costs 3.", "5 pounds."]);
        assert_eq!(en(&["She said \"no.\"", "Then (at last)", "he slept…", "  ", "Good"]).len(), 3);
        assert_eq!(
            texts(Lang::ES, &["El Sr.", "Ruiz vive en el n.º", "ocho.", "¿Y tú?"]),
            ["El Sr. Ruiz vive en el n.º ocho.", "¿Y tú?"]
        );
        assert_eq!(texts("ja".parse().unwrap(), &["今日は", "雨です。", "はい。"]), ["今日は雨です。", "はい。"]);
        assert_eq!(texts("zh".parse().unwrap(), &["你好", "吗？", "再见！」"]).len(), 2);
    }

    #[test]
    fn pauses_and_length_end_lines_too() {
        let one = Segment::new(at(0.0, 2.0), "and so");
        assert_eq!(merged(Lang::EN, &[one.clone(), Segment::new(at(2.7, 4.0), "on")]).len(), 1);
        assert_eq!(merged(Lang::EN, &[one.clone(), Segment::new(at(2.9, 4.0), "on")]).len(), 2);
        assert_eq!(merged(Lang::EN, &[one.clone(), Segment::new(at(2.1, 12.5), "on")]).len(), 2);
        assert_eq!(merged(Lang::EN, &[one, Segment::new(at(2.1, 8.0), "long ".repeat(40))]).len(), 2);
    }

    #[test]
    fn splits_by_words() {
        let mut whole = Segment::new(at(1.0, 4.0), "It is late. Dr. Hill waits.");
        let word = |t: &str, from| Word::new(t, at(from, from + 0.3));
        whole.words = [("It", 1.1), ("is", 1.5), ("late.", 1.9), ("Dr.", 2.6), ("Hill", 3.0), ("waits.", 3.5)]
            .map(|(t, s)| word(t, s))
            .to_vec();
        let got = merged(Lang::EN, &[whole.clone()]);
        assert_eq!(
            got.iter().map(|s| (s.text.as_str(), s.span, s.words.len())).collect::<Vec<_>>(),
            [("It is late.", at(1.0, 2.2), 3), ("Dr. Hill waits.", at(2.6, 4.0), 3)]
        );
        // Words that are not the text's are not trusted, and three seconds are not worth a guess.
        whole.words.pop();
        assert_eq!(merged(Lang::EN, &[whole]).len(), 1);
    }

    #[test]
    fn splits_long_fragments_by_length() {
        let got = merged(Lang::EN, &[Segment::new(at(10.0, 20.0), "Four. Sixteen letters it.")]);
        assert_eq!(got.len(), 2);
        assert_eq!((got[0].span.start, got[1].span.end), (at(10.0, 20.0).start, at(10.0, 20.0).end));
        assert_eq!(got[0].span.end, got[1].span.start);
        assert!(got[0].span.duration() < got[1].span.duration());
        assert_eq!(merged(Lang::EN, &[Segment::new(at(10.0, 17.0), "Four. Sixteen letters it.")]).len(), 1);
    }

    #[test]
    fn nothing_is_lost_whatever_comes() {
        let alphabet: Vec<char> = "ab Z.?!…\"')]»\n 。？3,:;-・字é\u{301}".chars().collect();
        let mut state = 5u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for lang in ["en", "es", "zh", "de", "yue"] {
            for _ in 0..300 {
                let fragments: Vec<Segment> = (0..5)
                    .map(|i| {
                        let text: String = (0..random(40)).map(|_| alphabet[random(alphabet.len())]).collect();
                        Segment::new(at(f64::from(i) * 9.5, f64::from(i) * 9.5 + 9.0), text)
                    })
                    .collect();
                let letters =
                    |s: &[Segment]| s.iter().flat_map(|s| s.text.chars()).filter(|c| !c.is_whitespace()).collect::<String>();
                let got = merged(lang.parse().unwrap(), &fragments);
                assert_eq!(letters(&got), letters(&fragments));
                assert!(got.windows(2).all(|w| w[0].span.end <= w[1].span.start), "{got:?}");
            }
        }
    }
}
