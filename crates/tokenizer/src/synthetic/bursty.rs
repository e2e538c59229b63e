//! Items and their labels, with the two properties of language that Chan et al. 2022 (arXiv
//! 2205.05055) turn, and Reddy 2024 (arXiv 2312.03002) after them: items come in bursts, and few of
//! them make up the most.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Draw, Process, Settings, Shape, nats, probability, refusal, whole, zipf};
use crate::Result;

/// Pairs of an item and its label.
///
/// A sequence is item, label, item, label, ... With the probability `burstiness` an item is one of
/// the earlier ones of its sequence, drawn evenly from them all; else, and at first, it is drawn from
/// all items by Zipf's law with exponent `zipf`. Bursts leave the marginal frequencies as they are,
/// so the two are independent dials. An item has the same label in all sequences, which a model can
/// learn by heart; but a share `relabelled` of the sequences draws a label for each of its items
/// anew, and there only the context says it.
///
/// In Chan et al. and Reddy a sequence is eight pairs and a query whose label alone is predicted;
/// bursts are classes that occur a fixed number of times in some of the sequences; an item is a
/// picture or a vector that varies within its class; and relabelled sequences are a test, where here
/// they may be part of training. Here every next token is predicted, items are tokens, and there are
/// as many pairs as the context holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bursty {
    /// How likely an item is one that came before, 0 to 1.
    pub burstiness: f64,
    /// Exponent of the items' frequencies by rank, from 0 (all alike) on.
    pub zipf: f64,
    /// Tokens that are labels, from 2 on: the last of the vocabulary. The others are items.
    pub labels: usize,
    /// Share of the sequences with labels of their own.
    #[serde(default)]
    pub relabelled: f64,
}

impl Settings for Bursty {
    fn open(&self, shape: Shape) -> Result<Box<dyn Process>> {
        probability("data.burstiness", self.burstiness)?;
        probability("data.relabelled", self.relabelled)?;
        if !(0.0..=10.0).contains(&self.zipf) {
            return Err(refusal("data.zipf", self.zipf, "an exponent, a number from 0 to 10"));
        }
        // Two items at least, beside BOS.
        whole("data.labels", self.labels, 2, shape.n_tokens().saturating_sub(2))?;
        let items = shape.n_tokens() - self.labels;
        // Labels have as many items each, or one more, of all ranks.
        let place = |k| induction_random::permute(0, "bursty: label", 0, items as u64, k);
        let label = |k| items as u32 + 1 + (place(k) % self.labels as u64) as u32;
        Ok(Box::new(Pairs {
            settings: self.clone(),
            shape,
            labels: (0..items as u64).map(label).collect(),
            sums: zipf(items, self.zipf),
        }))
    }
}

struct Pairs {
    settings: Bursty,
    shape: Shape,
    /// Of each item its label where none is drawn.
    labels: Vec<u32>,
    /// Entry `k` is the summed weight of items `1..=k + 1`.
    sums: Vec<u64>,
}

/// Which of the two kinds of knowledge a predictor of labels has.
#[derive(Clone, Copy, PartialEq)]
enum Knows {
    Both,
    Context,
    Weights,
}

impl Pairs {
    fn label(&self, item: u32) -> u32 {
        self.labels[item as usize - 1]
    }

    fn frequency(&self, item: u32) -> f64 {
        let rank = item as usize - 1;
        let weight = self.sums[rank] - rank.checked_sub(1).map_or(0, |before| self.sums[before]);
        weight as f64 / self.sums[self.sums.len() - 1] as f64
    }

    /// The losses of a predictor that knows how items are drawn, and of labels what is said.
    fn losses(&self, tokens: &[u32], knows: Knows) -> Vec<f64> {
        let Bursty { burstiness, labels, relabelled, .. } = self.settings;
        let even = 1.0 / labels as f64;
        // How likely this sequence has labels of its own.
        let mut own = relabelled;
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        let mut losses = Vec::with_capacity(tokens.len());
        for (before, pair) in tokens.chunks(2).enumerate() {
            let item = pair[0];
            let so_far = counts.get(&item).copied().unwrap_or(0);
            let new = self.frequency(item);
            losses.push(nats(if before == 0 {
                new
            } else {
                burstiness * so_far as f64 / before as f64 + (1.0 - burstiness) * new
            }));
            *counts.entry(item).or_default() += 1;
            let Some(&label) = pair.get(1) else { continue };
            let by_heart = f64::from(u8::from(label == self.label(item)));
            let of_new = own * even + (1.0 - own) * by_heart;
            losses.push(nats(match knows {
                // A label does not change within its sequence.
                Knows::Both | Knows::Context if so_far > 0 => 1.0,
                Knows::Both => of_new,
                Knows::Context => even,
                Knows::Weights => relabelled * even + (1.0 - relabelled) * by_heart,
            }));
            if so_far == 0 && of_new > 0.0 {
                own *= even / of_new;
            }
        }
        losses
    }
}

impl Process for Pairs {
    fn tokens(&self, draw: &mut dyn Draw) -> Vec<u32> {
        let relabelled = draw.chance(self.settings.relabelled);
        let mut items: Vec<u32> = Vec::new();
        let mut labels: BTreeMap<u32, u32> = BTreeMap::new();
        let mut tokens = Vec::with_capacity(self.shape.n_ctx + 1);
        while tokens.len() < self.shape.n_ctx {
            let item = if !items.is_empty() && draw.chance(self.settings.burstiness) {
                items[draw.below(items.len())]
            } else {
                draw.weighted(&self.sums) as u32 + 1
            };
            items.push(item);
            let label = *labels.entry(item).or_insert_with(|| match relabelled {
                true => (self.sums.len() + 1 + draw.below(self.settings.labels)) as u32,
                false => self.label(item),
            });
            tokens.extend([item, label]);
        }
        tokens.truncate(self.shape.n_ctx);
        tokens
    }

    /// An item's frequency here and in all sequences; of a label, what its item had before, or else
    /// Bayes' rule over whether the sequence has labels of its own.
    fn optimum(&self, tokens: &[u32]) -> Vec<f64> {
        self.losses(tokens, Knows::Both)
    }

    /// The same with labels from the context alone, and from the weights alone.
    fn references(&self, tokens: &[u32]) -> Vec<(&'static str, Vec<f64>)> {
        vec![
            ("labels in context", self.losses(tokens, Knows::Context)),
            ("labels in weights", self.losses(tokens, Knows::Weights)),
        ]
    }
}
