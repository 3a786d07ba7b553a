//! Long texts in pieces a voice was made for, and words with their times.

use std::time::Duration;

use super::tokenizer::Tokens;
use crate::audio::Span;
use crate::stage::Word;

/// The most characters of a piece: about 400 tokens with blanks, 15 seconds of speech; voices were trained on less.
pub(super) const MAX_PIECE: usize = 200;

/// Cuts `text` into pieces of at most [`MAX_PIECE`] characters: at ends of sentences if it can, else behind a comma or the
/// like, else between words, else anywhere. Pieces end behind their punctuation and have no space around.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while let Some((limit, _)) = rest.char_indices().nth(MAX_PIECE) {
        let head = &rest[..limit];
        // Where a space follows one of the marks: "3.5" and "a.m" are not ends.
        let behind = |marks: &str| {
            let pairs = head.char_indices().zip(rest.chars().skip(1));
            pairs.filter(|((_, c), next)| marks.contains(*c) && next.is_whitespace()).map(|((at, c), _)| at + c.len_utf8()).last()
        };
        // The ideographic full stop is followed by no space.
        let ideographic = || head.rfind(['。', '！', '？']).map(|at| at + '。'.len_utf8());
        let cut = (behind(".!?…").or_else(ideographic))
            .or_else(|| behind(",;:—–"))
            .or_else(|| head.rfind(char::is_whitespace).filter(|at| *at > 0))
            .unwrap_or(limit);
        let (piece, tail) = rest.split_at(cut);
        pieces.push(piece.trim_end());
        rest = tail.trim_start();
    }
    pieces.push(rest);
    pieces.retain(|p| !p.is_empty());
    pieces
}

/// The words of `text` and when they are said, given how many frames each token takes and how long a frame is, in samples
/// at `rate`. A word owns the blanks next to its characters, in which voices put part of its sound. Words of which
/// the voice says nothing are left out.
pub(super) fn words(text: &str, tokens: &Tokens, durations: &[usize], (hop, rate): (usize, u32), begin: Duration) -> Vec<Word> {
    let starts: Vec<usize> = std::iter::once(0)
        .chain(durations.iter().scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        }))
        .collect();
    let mut words = Vec::new();
    let mut index = 0;
    for run in text.split(char::is_whitespace) {
        let chars = index..index + run.chars().count();
        index = chars.end + 1;
        let mine = |source: &Option<usize>| source.is_some_and(|s| chars.contains(&s));
        let (Some(mut first), Some(mut last)) = (tokens.source.iter().position(mine), tokens.source.iter().rposition(mine))
        else {
            continue;
        };
        if first > 0 && tokens.source[first - 1].is_none() {
            first -= 1;
        }
        if tokens.source.get(last + 1).is_some_and(Option::is_none) {
            last += 1;
        }
        let span = Span::from_samples((starts[first] * hop) as u64, (starts[last + 1] * hop) as u64, rate);
        words.push(Word::new(run, span.shifted(begin)));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_the_best_place() {
        assert_eq!(split("  Hola. ¿Qué tal? "), ["Hola. ¿Qué tal?"]);
        assert!(split(" \n").is_empty());
        let sentence = format!("{} 3.5 fin.", "uno dos".repeat(10));
        let long = [sentence.as_str(); 5].join(" ");
        let pieces = split(&long);
        assert_eq!(pieces.join(" "), long);
        assert!(pieces.iter().all(|p| p.ends_with("fin.") && p.chars().count() <= MAX_PIECE));
        let clauses = format!("{}, {}", "a b ".repeat(40).trim(), "c d ".repeat(40).trim());
        assert!(split(&clauses)[0].ends_with(','));
        assert!(split(&"ñandú ".repeat(100)).iter().all(|p| p.ends_with("ñandú")));
        let solid = "ñ".repeat(450);
        assert_eq!(split(&solid).iter().map(|p| p.chars().count()).collect::<Vec<_>>(), [200, 200, 50]);
        assert_eq!(split(&"你好。".repeat(100))[0].chars().count(), 198);
    }

    #[test]
    fn words_own_their_blanks() {
        // _ a _ b _ space _ c _ (a comma follows c, which the voice does not know).
        let source = vec![None, Some(0), None, Some(1), None, Some(2), None, Some(3), None];
        let tokens = Tokens { ids: vec![0; 9], source };
        let got = words("ab c, —", &tokens, &[1, 2, 1, 1, 1, 5, 1, 3, 1], (10, 1_000), Duration::ZERO);
        let ms = |w: &Word| (w.text.clone(), w.span.start.as_millis(), w.span.end.as_millis());
        assert_eq!(got.iter().map(ms).collect::<Vec<_>>(), [("ab".into(), 0, 60), ("c,".into(), 110, 160)]);
    }
}
