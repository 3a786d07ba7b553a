//! From logits to tokens: greedy and beam search and sampling over a batch, with rules that forbid or force tokens.
//!
//! Follows `generate` of transformers: the same order of rules, beam scores divided by length, the same end of search.

use std::sync::OnceLock;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Ctx;
use super::cpu::{self, Isa, Peak, Tile};
use crate::error::{Error, Result};
use crate::team::Team;

/// What the search asks of a decoder.
pub(crate) trait Model {
    /// Feeds each row's new tokens (all rows equally many) and makes `logits` those of the next one, `[rows, vocabulary]`:
    /// the same memory for all steps.
    fn step(&mut self, ctx: &Ctx<'_>, tokens: &[Vec<u32>], logits: &mut Vec<f32>) -> Result<()>;

    /// Row `i` from now on continues what was row `rows[i]`.
    fn select(&mut self, rows: &[usize]) -> Result<()>;

    /// Threads that are free between steps.
    fn team(&self) -> Option<&Team>;
}

/// What may come next.
pub(crate) trait Rules: Sync {
    /// Changes `scores` (logits, or log-probabilities in a beam search) of the token behind `generated`.
    fn apply(&self, generated: &[u32], scores: &mut [f32]);
}

/// How to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    /// 1 is greedy.
    pub(crate) beams: usize,
    /// Most tokens to generate, end token included.
    pub(crate) max_new: usize,
    /// The token that ends a sequence.
    pub(crate) end: u32,
    /// Beam scores are divided by length to this power.
    pub(crate) length_penalty: f32,
    /// Whether a sentence ends as soon as it has `beams` finished hypotheses.
    pub(crate) early_stopping: bool,
}

/// A finished sequence.
#[derive(Clone, Debug)]
pub(crate) struct Hypothesis {
    /// Generated tokens, the end token included where it was reached.
    pub(crate) tokens: Vec<u32>,
    /// Sum of log-probabilities by length (to the length penalty).
    pub(crate) score: f32,
}

/// Decodes a batch, each row behind its prompt (all equally long). Returns the hypotheses of each, best first.
///
/// `advance` hears of each step, with the number of rows still running.
pub(crate) fn generate(
    ctx: &Ctx<'_>,
    model: &mut impl Model,
    prompts: &[Vec<u32>],
    rules: &impl Rules,
    search: &Search,
    advance: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Vec<Hypothesis>>> {
    if prompts.is_empty() {
        return Ok(Vec::new());
    }
    if search.beams <= 1 {
        let found = one_each(ctx, model, prompts, rules, search, None, advance)?;
        Ok(found.into_iter().map(|h| vec![h]).collect())
    } else {
        beam(ctx, model, prompts, rules, search, advance)
    }
}

/// Draws each row's tokens by their probability at `temperature` (above 0), row `i` with the numbers of `rngs[i]`: what a
/// row becomes does not depend on its neighbours. The beams of `search` do not count.
pub(crate) fn sample(
    ctx: &Ctx<'_>,
    model: &mut impl Model,
    prompts: &[Vec<u32>],
    rules: &impl Rules,
    search: &Search,
    (temperature, rngs): (f64, &mut [ChaCha8Rng]),
    advance: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Hypothesis>> {
    if rngs.len() != prompts.len() {
        return Err(Error::internal("a row has no random numbers"));
    }
    one_each(ctx, model, prompts, rules, search, Some((temperature, rngs)), advance)
}

/// Goes on with one token per row: the most probable one, or one drawn at a temperature with the row's own numbers.
fn one_each(
    ctx: &Ctx<'_>,
    model: &mut impl Model,
    prompts: &[Vec<u32>],
    rules: &impl Rules,
    search: &Search,
    mut drawn: Option<(f64, &mut [ChaCha8Rng])>,
    advance: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Hypothesis>> {
    let mut done: Vec<Hypothesis> = prompts.iter().map(|_| Hypothesis { tokens: Vec::new(), score: 0.0 }).collect();
    let mut running: Vec<usize> = (0..prompts.len()).collect();
    let mut feed: Vec<Vec<u32>> = prompts.to_vec();
    let (isa, mut logits, mut stay) = (Isa::chosen()?, Vec::new(), Vec::new());
    for step in 0..search.max_new {
        ctx.check()?;
        advance(step, running.len());
        model.step(ctx, &feed, &mut logits)?;
        stay.clear();
        feed.clear();
        let draws: Option<(f64, Vec<f64>)> =
            drawn.as_mut().map(|(temperature, rngs)| (*temperature, running.iter().map(|row| rngs[*row].random()).collect()));
        let found = of_rows(model.team(), &mut logits, running.len(), |slot, scores| {
            rules.apply(&done[running[slot]].tokens, scores);
            let peak = peak(isa, scores)?;
            let token = match &draws {
                None => peak.at,
                Some((temperature, shares)) => cpu::draw(isa, scores, peak, *temperature, shares[slot]),
            };
            // At temperature 1 whatever the temperature: by it tries of different temperatures are compared.
            Ok::<_, Error>((token as u32, scores[token] - peak.log_sum))
        });
        for (slot, found) in found.into_iter().enumerate() {
            let row = &mut done[running[slot]];
            let (token, logprob) = found?;
            row.tokens.push(token);
            row.score += logprob;
            if token != search.end {
                stay.push(slot);
                feed.push(vec![token]);
            }
        }
        if stay.is_empty() {
            break;
        }
        // Rows that ended leave the batch, so that the rest does not pay for them.
        if stay.len() < running.len() {
            model.select(&stay)?;
            running = stay.iter().map(|slot| running[*slot]).collect();
        }
    }
    for row in &mut done {
        row.score /= (row.tokens.len().max(1) as f32).powf(search.length_penalty);
    }
    Ok(done)
}

/// Each row's part of `logits`.
fn rows_of(logits: &mut [f32], rows: usize) -> std::slice::ChunksExactMut<'_, f32> {
    let vocabulary = (logits.len() / rows.max(1)).max(1);
    logits.chunks_exact_mut(vocabulary)
}

/// What `work` makes of each row of `logits`, by its number; several at a time.
fn of_rows<R: Send + Sync>(
    team: Option<&Team>,
    logits: &mut [f32],
    rows: usize,
    work: impl Fn(usize, &mut [f32]) -> R + Sync,
) -> Vec<R> {
    let Some(team) = team else { return rows_of(logits, rows).enumerate().map(|(i, scores)| work(i, scores)).collect() };
    let found: Vec<OnceLock<R>> = (0..rows).map(|_| OnceLock::new()).collect();
    let vocabulary = logits.len() / rows.max(1);
    team.each_rows(Tile::dense(logits, vocabulary), 1, |i, mut scores| {
        let _ = found[i].set(work(i, scores.all()));
    });
    found.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// The highest score, and by what scores are log-probabilities.
fn peak(isa: Isa, scores: &[f32]) -> Result<Peak> {
    match cpu::peak(isa, scores) {
        peak if peak.max.is_finite() && peak.log_sum.is_finite() => Ok(peak),
        _ => Err(Error::internal("the model's output is not a number, or every token is forbidden")),
    }
}

/// The search's state of one sentence.
struct Sentence {
    /// Open hypotheses and the sums of their log-probabilities, best first.
    open: Vec<(Vec<u32>, f32)>,
    /// Finished ones by score, best first, at most `beams`.
    finished: Vec<Hypothesis>,
}

/// A continuation: which open hypothesis, by which token, at what sum.
#[derive(Clone, Copy)]
struct Candidate {
    from: usize,
    token: u32,
    sum: f32,
}

fn beam(
    ctx: &Ctx<'_>,
    model: &mut impl Model,
    prompts: &[Vec<u32>],
    rules: &impl Rules,
    search: &Search,
    advance: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Vec<Hypothesis>>> {
    let mut sentences: Vec<Sentence> =
        prompts.iter().map(|_| Sentence { open: vec![(Vec::new(), 0.0)], finished: Vec::new() }).collect();
    let mut running: Vec<usize> = (0..prompts.len()).collect();
    let mut feed: Vec<Vec<u32>> = prompts.to_vec();
    let (isa, mut all) = (Isa::chosen()?, Vec::new());
    for step in 0..search.max_new {
        ctx.check()?;
        advance(step, running.len());
        model.step(ctx, &feed, &mut all)?;
        let open: Vec<_> = running.iter().flat_map(|row| sentences[*row].open.iter().enumerate()).collect();
        let found = of_rows(model.team(), &mut all, open.len(), |i, scores| {
            let (from, (tokens, sum)) = open[i];
            continuations(isa, (from, tokens, *sum), scores, rules, search)
        });
        let mut found = found.into_iter();
        let (mut select, mut next, mut base) = (Vec::new(), Vec::new(), 0);
        feed.clear();
        for &row in &running {
            let sentence = &mut sentences[row];
            let width = sentence.open.len();
            let mut candidates = found.by_ref().take(width).collect::<Result<Vec<_>>>()?.concat();
            prune(&mut candidates, 2 * search.beams);
            if sentence.advance(&candidates, step, search) {
                next.push(row);
                select.extend(sentence.origins(&candidates, search).map(|from| base + from));
                feed.extend(sentence.open.iter().map(|(tokens, _)| vec![tokens[step]]));
            }
            base += width;
        }
        if next.is_empty() {
            break;
        }
        model.select(&select)?;
        running = next;
    }
    Ok(sentences.into_iter().map(|s| s.finished).collect())
}

/// The `2 * beams` best continuations of an open hypothesis, best first, from its number, tokens and sum.
fn continuations(
    isa: Isa,
    (from, tokens, sum): (usize, &[u32], f32),
    scores: &mut [f32],
    rules: &impl Rules,
    search: &Search,
) -> Result<Vec<Candidate>> {
    let keep = 2 * search.beams;
    let log_sum = peak(isa, scores)?.log_sum;
    scores.iter_mut().for_each(|s| *s -= log_sum);
    rules.apply(tokens, scores);
    let mut all: Vec<Candidate> = Vec::with_capacity(4 * keep);
    // What is below the worst that is kept need not be sorted. A sum is rounded, so what is just below is looked at, too.
    let mut bar = f32::NEG_INFINITY;
    let under = |bar: f32| bar - sum - 1e-6 * (bar.abs() + sum.abs());
    cpu::above(isa, scores, bar, |token, s| {
        if sum + s > bar {
            all.push(Candidate { from, token: token as u32, sum: sum + s });
            if all.len() >= 4 * keep {
                bar = prune(&mut all, keep);
            }
        }
        under(bar)
    });
    prune(&mut all, keep);
    Ok(all)
}

/// Keeps the best, in order; ties go to the earlier hypothesis and the lower token. Returns the last one's sum.
fn prune(all: &mut Vec<Candidate>, keep: usize) -> f32 {
    all.sort_by(|a, b| b.sum.total_cmp(&a.sum).then(a.from.cmp(&b.from)).then(a.token.cmp(&b.token)));
    all.truncate(keep);
    if all.len() < keep { f32::NEG_INFINITY } else { all[keep - 1].sum }
}

impl Sentence {
    /// Takes the step's candidates in; whether the sentence goes on.
    fn advance(&mut self, candidates: &[Candidate], step: usize, search: &Search) -> bool {
        let length = (step + 1) as f32;
        let scale = length.powf(search.length_penalty);
        let full = step + 1 >= search.max_new;
        for c in candidates.iter().take(search.beams).filter(|c| full || c.token == search.end) {
            let mut tokens = self.open[c.from].0.clone();
            tokens.push(c.token);
            self.finished.push(Hypothesis { tokens, score: c.sum / scale });
        }
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(search.beams);
        if full {
            return false;
        }
        self.open = candidates
            .iter()
            .filter(|c| c.token != search.end)
            .take(search.beams)
            .map(|c| {
                let mut tokens = self.open[c.from].0.clone();
                tokens.push(c.token);
                (tokens, c.sum)
            })
            .collect();
        let Some((_, best_sum)) = self.open.first() else { return false };
        if self.finished.len() < search.beams {
            return true;
        }
        // An open hypothesis is taken at its present length: none that scores below all finished ones can catch up.
        let worst = self.finished.last().map_or(f32::NEG_INFINITY, |h| h.score);
        !search.early_stopping && best_sum / scale > worst
    }

    /// For each open hypothesis, which of the former ones it continues.
    fn origins<'a>(&self, candidates: &'a [Candidate], search: &Search) -> impl Iterator<Item = usize> + use<'a> {
        let end = search.end;
        candidates.iter().filter(move |c| c.token != end).take(self.open.len()).map(|c| c.from)
    }
}

/// Rules of a configuration: words that must not come up, and a token forced at one step.
pub(crate) struct Fixed {
    /// Sequences of tokens, none empty.
    pub(crate) bad_words: Vec<Vec<u32>>,
    /// The token that must come at the given step.
    pub(crate) forced: Option<(usize, u32)>,
}

impl Rules for Fixed {
    fn apply(&self, generated: &[u32], scores: &mut [f32]) {
        for word in &self.bad_words {
            if let Some((last, before)) = word.split_last()
                && generated.ends_with(before)
            {
                forbid(scores, &[*last]);
            }
        }
        if let Some((step, token)) = self.forced
            && generated.len() == step
        {
            scores.fill(f32::NEG_INFINITY);
            if let Some(s) = scores.get_mut(token as usize) {
                *s = 0.0;
            }
        }
    }
}

/// Forbids tokens.
pub(crate) fn forbid(scores: &mut [f32], tokens: &[u32]) {
    for token in tokens {
        if let Some(s) = scores.get_mut(*token as usize) {
            *s = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Job;
    use rand::SeedableRng;

    const LOGITS: [f32; 4] = [1.0, 0.0, f32::NEG_INFINITY, 0.5];

    /// Says the same whatever it is told.
    struct Constant(usize);

    impl Model for Constant {
        fn step(&mut self, _: &Ctx<'_>, tokens: &[Vec<u32>], logits: &mut Vec<f32>) -> Result<()> {
            assert_eq!(tokens.len(), self.0);
            *logits = LOGITS.repeat(tokens.len());
            Ok(())
        }

        fn select(&mut self, rows: &[usize]) -> Result<()> {
            self.0 = rows.len();
            Ok(())
        }

        fn team(&self) -> Option<&Team> {
            None
        }
    }

    fn draw(temperature: f64, rows: usize, seed: u64) -> Vec<Hypothesis> {
        let search = Search { beams: 1, max_new: 1, end: 3, length_penalty: 1.0, early_stopping: false };
        let mut rngs: Vec<_> = (0..rows).map(|i| ChaCha8Rng::seed_from_u64(seed + i as u64)).collect();
        let rules = Fixed { bad_words: Vec::new(), forced: None };
        crate::nn::run(&Job::new(), crate::device::cpu(), |ctx| {
            sample(ctx, &mut Constant(rows), &vec![vec![0]; rows], &rules, &search, (temperature, &mut rngs), &mut |_, _| ())
        })
        .unwrap()
    }

    #[test]
    fn tokens_are_drawn_by_their_probability() {
        const ROWS: usize = 20_000;
        for temperature in [0.4, 1.0] {
            let weights = LOGITS.map(|l| (f64::from(l) / temperature).exp());
            let mut counts = [0usize; 4];
            for found in draw(temperature, ROWS, 0) {
                let token = found.tokens[0] as usize;
                counts[token] += 1;
                let logprob = LOGITS[token] - LOGITS.map(f32::exp).iter().sum::<f32>().ln();
                assert!((found.score - logprob).abs() < 1e-5, "the score is the probability at temperature 1");
            }
            for (count, weight) in counts.into_iter().zip(weights) {
                let (got, want) = (count as f64 / ROWS as f64, weight / weights.iter().sum::<f64>());
                assert!((got - want).abs() < 0.02, "{got} for {want} at {temperature}");
            }
            assert_eq!(counts[2], 0, "what is forbidden is never drawn");
        }
        assert!(draw(0.01, 200, 0).iter().all(|h| h.tokens == [0]), "a low temperature is greedy");
        let tokens = |seed| draw(1.0, 100, seed).into_iter().map(|h| h.tokens).collect::<Vec<_>>();
        assert_eq!(tokens(5), tokens(5));
        assert_ne!(tokens(5), tokens(1_000));
    }
}
