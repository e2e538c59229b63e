//! Each process against everything that it could have drawn.

use std::collections::BTreeMap;

use super::*;

/// Draws what it is told to, and says what else there was.
#[derive(Default)]
struct Script {
    /// Of each draw which outcome, and the probabilities of all.
    path: Vec<(usize, Vec<f64>)>,
    at: usize,
}

impl Script {
    fn choose(&mut self, probabilities: Vec<f64>) -> usize {
        if self.at == self.path.len() {
            let first = probabilities.iter().position(|&p| p > 0.0).unwrap();
            self.path.push((first, probabilities));
        }
        self.at += 1;
        self.path[self.at - 1].0
    }

    /// Goes on to the next path; false after the last.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((outcome, probabilities)) = self.path.pop() {
            let next = (outcome + 1..probabilities.len()).find(|&k| probabilities[k] > 0.0);
            if let Some(next) = next {
                self.path.push((next, probabilities));
                return true;
            }
        }
        false
    }
}

impl Draw for Script {
    fn below(&mut self, n: usize) -> usize {
        self.choose(vec![1.0 / n as f64; n])
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.choose(vec![1.0 - probability, probability]) == 1
    }

    fn of_ten(&mut self, cases: u32) -> bool {
        self.chance(f64::from(cases) / 10.0)
    }

    fn weighted(&mut self, sums: &[u64]) -> usize {
        let total = *sums.last().unwrap() as f64;
        let before = std::iter::once(&0).chain(sums);
        self.choose(
            sums.iter().zip(before).map(|(&sum, &less)| (sum - less) as f64 / total).collect(),
        )
    }
}

/// The probability of every sequence, and of every beginning of one.
fn law(process: &dyn Process) -> BTreeMap<Vec<u32>, f64> {
    let (mut law, mut script) = (BTreeMap::new(), Script::default());
    loop {
        let tokens = process.tokens(&mut script);
        let probability: f64 = script.path.iter().map(|(k, of)| of[*k]).product();
        for end in 0..=tokens.len() {
            *law.entry(tokens[..end].to_vec()).or_default() += probability;
        }
        if !script.advance() {
            return law;
        }
    }
}

fn lags(lags: &[usize], streams: usize, reliability: f64) -> Synthetic {
    let lags = Some(lags.to_vec());
    Synthetic::Lags(Lags { lags, min_lag: None, max_lag: None, streams, reliability })
}

fn shape(d_vocab: usize, n_ctx: usize) -> Shape {
    Shape { d_vocab, n_ctx }
}

/// Every source, small enough that all sequences can be counted.
fn tiny() -> Vec<(Synthetic, Shape)> {
    let repeats = |min_period, max_period| Synthetic::Repeats(Repeats { min_period, max_period });
    let markov = |states, concentration| Synthetic::Markov(Markov { states, concentration });
    let hierarchy = |block, blocks, min_period, max_period| {
        Synthetic::Hierarchy(Hierarchy { block, blocks, min_period, max_period })
    };
    let bursty = |burstiness, zipf, labels, relabelled| {
        Synthetic::Bursty(Bursty { burstiness, zipf, labels, relabelled })
    };
    vec![
        (repeats(2, 2), shape(4, 7)),
        (repeats(2, 3), shape(3, 8)),
        (markov(None, 1.0), shape(4, 5)),
        (markov(None, 0.25), shape(3, 6)),
        (markov(Some(2), 1.5), shape(5, 5)),
        (lags(&[2], 1, 1.0), shape(4, 6)),
        (lags(&[1, 3, 2], 1, 0.75), shape(3, 6)),
        (lags(&[1, 2], 2, 0.5), shape(3, 6)),
        (lags(&[1], 3, 0.0), shape(3, 6)),
        (hierarchy(2, 2, 2, 2), shape(4, 9)),
        (hierarchy(2, 3, 2, 3), shape(4, 12)),
        (hierarchy(3, 2, 2, 2), shape(3, 13)),
        (bursty(0.6, 1.0, 2, 0.0), shape(5, 7)),
        (bursty(0.4, 0.5, 2, 0.3), shape(5, 7)),
        (bursty(1.0, 2.0, 3, 1.0), shape(6, 6)),
        (bursty(0.0, 0.0, 2, 0.5), shape(6, 6)),
    ]
}

#[test]
fn the_optimum_is_what_follows_from_all_that_could_have_been_drawn() {
    let mut names = std::collections::BTreeSet::new();
    let mut worst: f64 = 0.0;
    for (source, shape) in tiny() {
        names.insert(source.name());
        let process = source.open(shape).unwrap();
        let law = law(process.as_ref());
        assert!((law[&vec![]] - 1.0).abs() < 1e-12, "{source:?}: {}", law[&vec![]]);
        let whole: Vec<_> = law.iter().filter(|(tokens, _)| tokens.len() == shape.n_ctx).collect();
        assert!(whole.len() > 5, "{source:?}");
        for (tokens, _) in whole {
            let within = |&token: &u32| token > 0 && (token as usize) < shape.d_vocab;
            assert!(tokens.iter().all(within), "{tokens:?}");
            let optimum = process.optimum(tokens);
            assert_eq!(optimum.len(), tokens.len());
            for (at, loss) in optimum.iter().enumerate() {
                let expected = -(law[&tokens[..=at]] / law[&tokens[..at]]).ln();
                worst = worst.max((loss - expected).abs());
                assert!(
                    (loss - expected).abs() < 1e-12,
                    "{source:?}: {tokens:?} at {at}: {loss}, {expected}"
                );
            }
        }
    }
    assert_eq!(names, Synthetic::NAMES.iter().copied().collect());
    eprintln!("largest difference: {worst:.1e} nats");
    assert!(worst > 0.0, "not the same arithmetic");
}

/// No predictor's expected loss is lower at any position: Gibbs' inequality over all sequences.
#[test]
fn no_reference_is_better_than_the_optimum() {
    for (source, shape) in tiny() {
        let process = source.open(shape).unwrap();
        let law = law(process.as_ref());
        let whole = || law.iter().filter(|(tokens, _)| tokens.len() == shape.n_ctx);
        let mean = |losses: &dyn Fn(&[u32]) -> Vec<f64>| {
            whole().fold(vec![0.0; shape.n_ctx], |mut mean, (tokens, probability)| {
                mean.iter_mut()
                    .zip(losses(tokens))
                    .for_each(|(mean, loss)| *mean += probability * loss);
                mean
            })
        };
        let optimum = mean(&|tokens| process.optimum(tokens));
        let first = whole().next().unwrap().0;
        for (k, (name, _)) in process.references(first).into_iter().enumerate() {
            let reference = mean(&|tokens| process.references(tokens).swap_remove(k).1);
            for (at, (best, other)) in optimum.iter().zip(&reference).enumerate() {
                assert!(*best <= other + 1e-12, "{source:?}: {name} at {at}: {best}, {other}");
            }
        }
    }
}

/// What the generator of training draws is what was counted.
#[test]
fn sequences_come_as_often_as_they_should() {
    const DRAWN: u64 = 20_000;
    for (source, shape) in tiny() {
        let task = SyntheticTask::new(&source, shape, 0, "train").unwrap();
        let law = law(task.process());
        let mut found: BTreeMap<Vec<u32>, f64> = BTreeMap::new();
        for k in 0..DRAWN {
            let example = task.example(k);
            assert_eq!((example.len(), example[0]), (shape.n_ctx + 1, 0));
            for end in 1..=4 {
                *found.entry(example[1..=end].to_vec()).or_default() += 1.0 / DRAWN as f64;
            }
        }
        for (tokens, probability) in
            law.iter().filter(|(tokens, _)| (1..=4).contains(&tokens.len()))
        {
            let share = found.remove(tokens).unwrap_or(0.0);
            let error = (probability * (1.0 - probability) / DRAWN as f64).sqrt();
            let most = 5.0 * error + 2.0 / DRAWN as f64;
            assert!(
                (share - probability).abs() <= most,
                "{source:?}: {tokens:?}: {share}, {probability}"
            );
        }
        assert!(found.is_empty(), "{source:?}: {found:?} cannot be");
    }
}

/// Every source as one would train on it.
fn usual() -> [Synthetic; 5] {
    [
        Synthetic::Repeats(Repeats { min_period: 8, max_period: 24 }),
        Synthetic::Markov(Markov { states: Some(4), concentration: 1.0 }),
        lags(&[8, 12], 2, 0.9),
        Synthetic::Hierarchy(Hierarchy { block: 3, blocks: 4, min_period: 3, max_period: 6 }),
        Synthetic::Bursty(Bursty { burstiness: 0.5, zipf: 1.0, labels: 16, relabelled: 0.5 }),
    ]
}

#[test]
fn every_argument_of_the_stream_matters() {
    for source in usual() {
        let first = |seed, purpose, index| {
            SyntheticTask::new(&source, shape(64, 64), seed, purpose).unwrap().example(index)
        };
        let base = first(0, "train", 0);
        assert_eq!(base, first(0, "train", 0));
        for other in [first(0, "train", 1), first(1, "train", 0), first(0, "held out", 0)] {
            assert_ne!(other, base, "{source:?}");
        }
    }
}

/// The first examples, so that runs stay what they were.
#[test]
fn examples_do_not_change() {
    let hash = |source: Synthetic| {
        let task = SyntheticTask::new(&source, shape(64, 64), 3, "train").unwrap();
        let tokens = (0..100).flat_map(|k| task.example(k)).flat_map(u32::to_le_bytes);
        blake3::hash(&tokens.collect::<Vec<u8>>()).to_hex()[..16].to_string()
    };
    assert_eq!(
        usual().map(hash),
        [
            "c7adb0a9be3ffe47",
            "13735a7c513a7f85",
            "8ce1d37fd74746bb",
            "2a810d0a412afd6f",
            "5ffa4d1f134bcffb"
        ]
    );
}

/// Bursts leave the marginal frequencies as they are.
#[test]
fn burstiness_and_zipf_are_independent() {
    for burstiness in [0.0, 0.9] {
        let source =
            Synthetic::Bursty(Bursty { burstiness, zipf: 1.0, labels: 2, relabelled: 0.0 });
        let law = law(source.open(shape(6, 7)).unwrap().as_ref());
        for at in [0, 2, 4, 6] {
            let frequency = |item| -> f64 {
                let of_item =
                    law.iter().filter(|(tokens, _)| tokens.len() == 7 && tokens[at] == item);
                of_item.map(|(_, probability)| probability).sum()
            };
            let harmonic = 1.0 + 1.0 / 2.0 + 1.0 / 3.0;
            for item in 1..=3 {
                let expected = 1.0 / f64::from(item) / harmonic;
                assert!((frequency(item) - expected).abs() < 1e-9, "{burstiness} {at} {item}");
            }
        }
    }
}

#[test]
fn powers_by_roots() {
    for base in [1.0, 2.0, 3.0, 64.0, 65_535.0f64] {
        for exponent in [0.0, 0.5, 0.3, 1.0, 1.1, 2.0, 9.99, 10.0] {
            let (found, expected) = (power(base, exponent), base.powf(exponent));
            assert!(
                (found / expected - 1.0).abs() < 1e-13,
                "{base}^{exponent}: {found}, {expected}"
            );
        }
    }
    assert_eq!(zipf(4, 1.0).last(), Some(&((1 << 40) + (1 << 39) + 366_503_875_925 + (1 << 38))));
}

#[test]
fn each_setting_is_checked_in_one_sentence() {
    let refused = |setting: &str, source: Synthetic, shape| {
        let Err(error) = source.open(shape).map(|_| ()) else {
            panic!("{source:?} fits {shape:?}")
        };
        let message = error.to_string();
        assert!(message.starts_with(&format!("{setting}: expected ")), "{setting}: {message}");
        assert!(!message.contains('\n') && !message.contains(". "), "{message}");
    };
    let usual = shape(64, 32);
    let repeats = |min_period, max_period| Synthetic::Repeats(Repeats { min_period, max_period });
    refused("model.d_vocab = 2", repeats(4, 12), shape(2, 32));
    refused("model.d_vocab = 65537", repeats(4, 12), shape(65_537, 32));
    refused("model.n_ctx = 1", repeats(4, 12), shape(64, 1));
    refused("data.max_period = 17 (min_period 4)", repeats(4, 17), usual);
    refused("data.max_period = 0 (min_period 4)", repeats(4, 0), usual);
    refused("data.max_period = 12 (min_period 1)", repeats(1, 12), usual);
    refused("data.max_period = 12 (min_period 13)", repeats(13, 12), usual);
    let markov = |states, concentration| Synthetic::Markov(Markov { states, concentration });
    refused("data.states = 1", markov(Some(1), 1.0), usual);
    refused("data.states = 64", markov(Some(64), 1.0), usual);
    refused("data.concentration = 0", markov(None, 0.0), usual);
    refused("data.concentration = NaN", markov(None, f64::NAN), usual);
    let range = |min_lag, max_lag| {
        Synthetic::Lags(Lags { lags: None, min_lag, max_lag, streams: 1, reliability: 1.0 })
    };
    refused("data.lags = 32", lags(&[4, 32], 1, 1.0), usual);
    refused("data.lags = 0", lags(&[0], 1, 1.0), usual);
    refused("data.lags = []", lags(&[], 1, 1.0), usual);
    refused("data.lags = [3, 3]", lags(&[3, 3], 1, 1.0), usual);
    refused("data.lags = 8", lags(&[8], 4, 1.0), usual);
    refused("data.streams = 0", lags(&[8], 0, 1.0), usual);
    refused("data.streams = 17", lags(&[8], 17, 1.0), usual);
    refused("data.reliability = 1.5", lags(&[8], 1, 1.5), usual);
    refused("data.reliability = -0.1", lags(&[8], 1, -0.1), usual);
    refused("data.max_lag = 4 (min_lag 5)", range(Some(5), Some(4)), usual);
    refused("data.max_lag = 40", range(Some(5), Some(40)), usual);
    refused("data.min_lag = 0", range(Some(0), Some(4)), usual);
    refused("data.max_lag = nothing", range(Some(5), None), usual);
    refused("data.min_lag = nothing", range(None, Some(5)), usual);
    refused("data.lags = nothing", range(None, None), usual);
    let both =
        Lags { lags: Some(vec![2]), min_lag: Some(1), max_lag: None, streams: 1, reliability: 1.0 };
    refused("data.lags = [2]", Synthetic::Lags(both), usual);
    let hierarchy = |block, blocks, min_period, max_period| {
        Synthetic::Hierarchy(Hierarchy { block, blocks, min_period, max_period })
    };
    refused("data.block = 1", hierarchy(1, 4, 2, 4), usual);
    refused("data.block = 9", hierarchy(9, 4, 2, 4), usual);
    refused("data.blocks = 1", hierarchy(2, 1, 2, 4), usual);
    refused("data.blocks = 64", hierarchy(2, 64, 2, 4), usual);
    refused("data.max_period = 5 (min_period 2, block 4)", hierarchy(4, 4, 2, 5), usual);
    refused("data.max_period = 2 (min_period 3, block 4)", hierarchy(4, 4, 3, 2), usual);
    refused("data.max_period = 2 (min_period 1, block 4)", hierarchy(4, 4, 1, 2), usual);
    let bursty = |burstiness, zipf, labels, relabelled| {
        Synthetic::Bursty(Bursty { burstiness, zipf, labels, relabelled })
    };
    refused("data.burstiness = 1.1", bursty(1.1, 1.0, 8, 0.0), usual);
    refused("data.relabelled = NaN", bursty(0.5, 1.0, 8, f64::NAN), usual);
    refused("data.zipf = -1", bursty(0.5, -1.0, 8, 0.0), usual);
    refused("data.zipf = 11", bursty(0.5, 11.0, 8, 0.0), usual);
    refused("data.labels = 1", bursty(0.5, 1.0, 1, 0.0), usual);
    refused("data.labels = 62", bursty(0.5, 1.0, 62, 0.0), usual);
    refused("data.labels = 2", bursty(0.5, 1.0, 2, 0.0), shape(3, 32));
}
