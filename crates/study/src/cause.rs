//! What a head copies, by cause (Feucht et al. 2025, arXiv 2504.03022): its output is carried from a
//! run in which something can be copied into one in which it cannot, and what that brings is the
//! head's.
//!
//! A prompt is a start token, random tokens and an entity of two to five tokens, thirty in all, a
//! separator, the last twenty-five of the random tokens again, and the entity's first token; what
//! should follow is its second. (So all prompts have one length. In the paper the second half has
//! all of the random tokens.) The other run has other random tokens before the separator, so that
//! nothing there can be copied.
//!
//! - **Token copying**: the entity is random tokens. The head's `z` at the last position is carried
//!   over; its score is the change of the probability of the entity's second token.
//! - **Concept copying**: the entity is a word. The head's `z` is carried over one position earlier,
//!   where the word has not begun; its score is the change of the same probability, which the word
//!   as a whole, not its last token, must have brought.
//!
//! Both are means over prompts, between -1 and 1. Where many heads share the work, none of them
//! alone makes a likely token of an unlikely one, and all scores are next to nothing; so the change
//! of the logarithm of the probability, in nats, stands beside each.

use std::sync::{Mutex, PoisonError};

use induction_engine::{Engine, Intervention, Watched};
use induction_metrics::mean_stderr;
use induction_model::Hook;
use induction_random::stream;
use induction_records::{CopiedByCause, CopiedKind};
use induction_tokenizer::Tokenizer;
use ndarray::{Array2, Array3, Array4, Axis, Ix4, Slice};
use rand::seq::IndexedRandom;

use crate::{Error, source::EVALUATION_SEED};

/// Tokens before the separator.
const HALF: usize = 30;

/// Tokens of an entity.
const ENTITY: std::ops::RangeInclusive<usize> = 2..=5;

/// Bytes that residual streams of patched runs may fill at once.
const AT_ONCE: usize = 128 << 20;

/// Words that few vocabularies have as one token.
const WORDS: &[&str] = &[
    "aardvark",
    "abalone",
    "accordion",
    "alabaster",
    "almanac",
    "amaryllis",
    "amethyst",
    "anthracite",
    "apothecary",
    "apricot",
    "aqueduct",
    "arboretum",
    "armadillo",
    "artichoke",
    "asparagus",
    "aubergine",
    "babushka",
    "balaclava",
    "bandicoot",
    "barnacle",
    "bassoon",
    "beekeeper",
    "begonia",
    "billabong",
    "bluebell",
    "bookbinder",
    "boomerang",
    "bougainvillea",
    "bricklayer",
    "buccaneer",
    "bumblebee",
    "buttercup",
    "butterscotch",
    "calliope",
    "candelabra",
    "cantaloupe",
    "caravanserai",
    "cardamom",
    "carpenter",
    "castanet",
    "caterpillar",
    "cauliflower",
    "chameleon",
    "chandelier",
    "chanterelle",
    "chimpanzee",
    "chrysanthemum",
    "cinnamon",
    "clavichord",
    "cloudberry",
    "cobblestone",
    "cockatoo",
    "colander",
    "concertina",
    "coriander",
    "cormorant",
    "cottonwood",
    "crocodile",
    "cucumber",
    "cuttlefish",
    "daffodil",
    "dandelion",
    "didgeridoo",
    "dirigible",
    "dragonfly",
    "dulcimer",
    "earthworm",
    "echidna",
    "eggplant",
    "elderberry",
    "embroidery",
    "escarpment",
    "eucalyptus",
    "featherbed",
    "fiddlehead",
    "firefly",
    "fishmonger",
    "flamingo",
    "forsythia",
    "foxglove",
    "fuchsia",
    "gargoyle",
    "gazebo",
    "geranium",
    "gingerbread",
    "gladiolus",
    "glockenspiel",
    "gondolier",
    "gooseberry",
    "grapefruit",
    "grasshopper",
    "greyhound",
    "haberdasher",
    "hacienda",
    "hammock",
    "handkerchief",
    "harmonica",
    "harpsichord",
    "hawthorn",
    "hazelnut",
    "hedgehog",
    "heliotrope",
    "hippopotamus",
    "honeysuckle",
    "hornpipe",
    "hourglass",
    "hyacinth",
    "hydrangea",
    "icebreaker",
    "jackdaw",
    "jellyfish",
    "juniper",
    "kaleidoscope",
    "kestrel",
    "kettledrum",
    "kingfisher",
    "kookaburra",
    "lacquer",
    "ladybird",
    "lanternfish",
    "larkspur",
    "lavender",
    "limestone",
    "lobster",
    "locksmith",
    "macaroni",
    "magnolia",
    "mandolin",
    "mangrove",
    "marigold",
    "marmalade",
    "marmoset",
    "marzipan",
    "meadowlark",
    "millstone",
    "mistletoe",
    "molasses",
    "monastery",
    "mongoose",
    "moonstone",
    "mulberry",
    "nasturtium",
    "nectarine",
    "nightingale",
    "nutcracker",
    "nutmeg",
    "obelisk",
    "ocelot",
    "okapi",
    "oleander",
    "orangutan",
    "ostrich",
    "oystercatcher",
    "paddock",
    "pangolin",
    "papyrus",
    "paragliding",
    "parchment",
    "parsnip",
    "partridge",
    "patchwork",
    "peppercorn",
    "periwinkle",
    "persimmon",
    "pheasant",
    "philodendron",
    "piccolo",
    "pincushion",
    "pistachio",
    "platypus",
    "pomegranate",
    "porcupine",
    "portcullis",
    "potpourri",
    "quagmire",
    "quicksilver",
    "raspberry",
    "rattlesnake",
    "rhinoceros",
    "rhododendron",
    "rosemary",
    "saffron",
    "salamander",
    "sandcastle",
    "sarsaparilla",
    "saxophone",
    "scarecrow",
    "scimitar",
    "seahorse",
    "sepulchre",
    "shuttlecock",
    "silkworm",
    "skylark",
    "snapdragon",
    "snowdrop",
    "spearmint",
    "spinnaker",
    "squirrel",
    "stalactite",
    "starfish",
    "steeplechase",
    "stonemason",
    "sunflower",
    "sycamore",
    "tambourine",
    "tangerine",
    "tapestry",
    "tarantula",
    "thimble",
    "thunderclap",
    "toadstool",
    "tortoise",
    "trapeze",
    "turmeric",
    "turquoise",
    "ukulele",
    "velociraptor",
    "verandah",
    "vermicelli",
    "wallflower",
    "walnut",
    "watermelon",
    "weathervane",
    "wheelbarrow",
    "whippoorwill",
    "wildebeest",
    "windowpane",
    "windmill",
    "wisteria",
    "wolverine",
    "woodpecker",
    "xylophone",
    "yarrow",
    "zeppelin",
    "zucchini",
];

/// What a model is asked with.
pub struct Source<'a> {
    /// The token that begins each prompt.
    pub start: u32,
    /// Tokens that random ones are drawn from.
    pub allowed: &'a [u32],
    /// What makes tokens of words; without, there is no separator, and concepts are left out.
    pub tokenizer: Option<&'a dyn Tokenizer>,
}

/// One prompt in both runs, each with the token that should follow.
struct Pair {
    with: Vec<u32>,
    without: Vec<u32>,
}

/// A mean over prompts, and its standard error.
pub type Mean = (f64, Option<f64>);

/// What copying is in a model, and of each head.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Of the model.
    pub whole: CopiedByCause,
    /// `[layer][head]`: the change of the probability, and of its logarithm in nats.
    pub heads: Vec<Vec<[Mean; 2]>>,
}

impl Source<'_> {
    /// Tokens before the separator, as far as the context and the tokens allow; nothing if they do
    /// not allow an entity and a token before it.
    fn half(&self, n_ctx: usize) -> Option<usize> {
        let half = HALF.min(self.allowed.len() / 2).min(n_ctx.saturating_sub(2) / 2);
        (half > *ENTITY.end()).then_some(half)
    }

    fn separator(&self) -> Option<u32> {
        match self.tokenizer?.encode("\n").ok()?[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// The pair for an entity.
    fn pair(&self, purpose: &str, number: usize, entity: &[u32], half: usize) -> Option<Pair> {
        let pool: Vec<u32> = self
            .allowed
            .iter()
            .copied()
            .filter(|id| !entity.contains(id) && *id != self.start)
            .collect();
        let before = half - entity.len();
        let mut rng = stream(EVALUATION_SEED, purpose, number as u64);
        let drawn: Vec<u32> = pool.choose_multiple(&mut rng, before + half).copied().collect();
        if drawn.len() < before + half {
            return None;
        }
        let (random, other) = drawn.split_at(before);
        let again = &random[before - (half - ENTITY.end())..];
        let separator: Vec<u32> = self.separator().into_iter().collect();
        let end = [&separator[..], again, &entity[..2]].concat();
        let run = |first: &[&[u32]]| {
            let first = first.concat();
            std::iter::once(self.start).chain(first).chain(end.iter().copied()).collect()
        };
        Some(Pair { with: run(&[random, entity]), without: run(&[other]) })
    }

    /// Entities of random tokens, all lengths equally often.
    fn of_tokens(&self, count: usize, n_ctx: usize) -> Vec<Pair> {
        let Some(half) = self.half(n_ctx) else { return Vec::new() };
        let pairs = (0..count).filter_map(|k| {
            let length = ENTITY.start() + k % (ENTITY.end() - ENTITY.start() + 1);
            let mut rng = stream(EVALUATION_SEED, "entities of random tokens", k as u64);
            let entity: Vec<u32> =
                self.allowed.choose_multiple(&mut rng, length).copied().collect();
            self.pair("token copying", k, &entity, half).filter(|_| entity.len() == length)
        });
        pairs.collect()
    }

    /// Words of several tokens; and how many were left out, being another number of tokens in this
    /// vocabulary than an entity may have.
    fn of_words(&self, count: usize, n_ctx: usize) -> (Vec<Pair>, usize) {
        let (Some(half), Some(tokenizer)) = (self.half(n_ctx), self.tokenizer) else {
            return (Vec::new(), 0);
        };
        let mut rng = stream(EVALUATION_SEED, "words", 0);
        let words: Vec<&str> = WORDS.choose_multiple(&mut rng, WORDS.len()).copied().collect();
        let (mut entities, mut left_out) = (Vec::new(), 0);
        for word in words {
            match tokenizer.encode(&format!(" {word}")) {
                Ok(ids) if ENTITY.contains(&ids.len()) => entities.push(ids),
                _ => left_out += 1,
            }
        }
        // Each word again, among other tokens, if there are fewer than prompts.
        let pairs = entities.iter().cycle().take(if entities.is_empty() { 0 } else { count });
        let pairs = pairs.enumerate();
        let pairs = pairs.filter_map(|(k, ids)| self.pair("concept copying", k, ids, half));
        (pairs.collect(), left_out)
    }
}

/// Token copying and, with a tokenizer, concept copying of every head. Empty for a model whose
/// context or vocabulary holds no such prompts.
///
/// # Errors
/// The engine's.
pub fn copied(
    engine: &dyn Engine,
    source: &Source<'_>,
    prompts: usize,
) -> Result<Vec<Copied>, Error> {
    let n_ctx = engine.config().n_ctx;
    let (of_words, left_out) = source.of_words(prompts, n_ctx);
    let kinds = [
        (CopiedKind::Token, source.of_tokens(prompts, n_ctx), 1, 0),
        (CopiedKind::Concept, of_words, 2, left_out),
    ];
    let asked = kinds.into_iter().filter(|(_, pairs, ..)| !pairs.is_empty());
    asked
        .map(|(kind, pairs, back, left_out)| of_kind(engine, kind, &pairs, back, left_out))
        .collect()
}

fn of_kind(
    engine: &dyn Engine,
    kind: CopiedKind,
    pairs: &[Pair],
    back: usize,
    left_out: usize,
) -> Result<Copied, Error> {
    let config = engine.config();
    let heads = config.n_layers * config.n_heads;
    let at_once = (AT_ONCE / (4 * heads * back * config.d_model)).max(1);
    let mut found =
        Effects { with: Vec::new(), without: Vec::new(), heads: vec![Vec::new(); heads] };
    for part in pairs.chunks(at_once) {
        found.add(engine, part, back)?;
    }
    let of_head = |changes: &Vec<[f64; 2]>| {
        [0, 1].map(|k| mean_stderr(&changes.iter().map(|both| both[k]).collect::<Vec<_>>()))
    };
    let scores: Vec<[Mean; 2]> = found.heads.iter().map(of_head).collect();
    let [(with, with_stderr), (without, without_stderr)] =
        [mean_stderr(&found.with), mean_stderr(&found.without)];
    let whole = CopiedByCause {
        kind,
        prompts: pairs.len(),
        left_out,
        with,
        with_stderr,
        without,
        without_stderr,
    };
    Ok(Copied { whole, heads: scores.chunks(config.n_heads).map(<[_]>::to_vec).collect() })
}

/// Probabilities of what should follow, a prompt each.
struct Effects {
    with: Vec<f64>,
    without: Vec<f64>,
    /// Of each head, layer by layer: what carrying it over changes, and changes of the logarithm.
    heads: Vec<Vec<[f64; 2]>>,
}

impl Effects {
    /// Of some prompts; the heads' `z` is carried over `back` positions from the end.
    fn add(&mut self, engine: &dyn Engine, pairs: &[Pair], back: usize) -> Result<(), Error> {
        let (config, length) = (engine.config(), pairs.first().map_or(0, |pair| pair.with.len()));
        let table = |of: fn(&Pair) -> &Vec<u32>| {
            let rows: Vec<u32> = pairs.iter().flat_map(|pair| of(pair).iter().copied()).collect();
            Array2::from_shape_vec((pairs.len(), length), rows).expect("prompts of one length")
        };
        let (with, without) = (table(|pair| &pair.with), table(|pair| &pair.without));
        // Positions that are read; the last token is what should follow.
        let used = length - 1;
        let at = used - back;
        let (layers, heads, d_head) = (config.n_layers, config.n_heads, config.d_head);
        let z = Mutex::new(Array4::<f32>::zeros((layers, pairs.len(), heads, d_head)));
        let watched =
            Watched { tokens: with.slice_axis(Axis(1), Slice::from(..used)), hooks: &[Hook::Z] };
        engine.watch(&[watched], &|sight| {
            let seen = sight.seen[0].view().into_dimensionality::<Ix4>().expect("z has rank 4");
            let at_position = seen.index_axis(Axis(1), at);
            let mut z = z.lock().unwrap_or_else(PoisonError::into_inner);
            let mut layer = z.index_axis_mut(Axis(0), sight.layer);
            let rows = sight.first..sight.first + at_position.len_of(Axis(0));
            layer.slice_axis_mut(Axis(0), Slice::from(rows)).assign(&at_position);
        })?;
        let z = z.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut sets = vec![Vec::new()];
        for layer in 0..layers {
            for head in 0..heads {
                let value: Array3<f32> = z
                    .index_axis(Axis(0), layer)
                    .index_axis(Axis(1), head)
                    .insert_axis(Axis(1))
                    .to_owned();
                let hook = Hook::Z(layer);
                sets.push(vec![Intervention::ReplaceHead { hook, head, from: at, value }]);
            }
        }
        let views: Vec<&[Intervention]> = sets.iter().map(Vec::as_slice).collect();
        let losses = engine.last_losses_under(without.view(), &views, used - 1)?;
        let probability = |losses: &Array2<f32>, k: usize| (-f64::from(losses[[k, 0]])).exp();
        let losses_with = engine.last_losses_under(with.view(), &[&[]], used - 1)?;
        let clean = &losses[0];
        for k in 0..pairs.len() {
            let base = probability(clean, k);
            self.with.push(probability(&losses_with[0], k));
            self.without.push(base);
            for (scores, losses) in self.heads.iter_mut().zip(&losses[1..]) {
                let nats = f64::from(clean[[k, 0]] - losses[[k, 0]]);
                scores.push([probability(losses, k) - base, nats]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use induction_engine::CpuEngine;
    use induction_model::HandBuilt;

    use super::*;

    /// In a model whose circuit was written down, its one induction head brings all that copying is,
    /// and no other head brings anything.
    #[test]
    fn the_induction_head_copies_and_no_other() {
        let model = HandBuilt::new(64, 96);
        let (config, params) = (model.config(), model.params().unwrap());
        let engine = CpuEngine::new(&config, &params).unwrap();
        let allowed: Vec<u32> = (1..64).collect();
        let source = Source { start: 0, allowed: &allowed, tokenizer: None };
        let [copied] = &copied(&engine, &source, 8).unwrap()[..] else { panic!("tokens alone") };
        let CopiedByCause { kind, prompts, with, without, .. } = copied.whole;
        assert_eq!((kind, prompts), (CopiedKind::Token, 8));
        assert!(with > 0.5 && without < 0.05, "{with} {without}");
        for (layer, heads) in copied.heads.iter().enumerate() {
            for (head, &[(score, _), (nats, _)]) in heads.iter().enumerate() {
                let is_it = (layer, head) == (1, 0);
                let expected = if is_it { with - without } else { 0.0 };
                assert!((score - expected).abs() < 1e-4, "{layer}.{head}: {score} for {expected}");
                assert_eq!(nats > 1.0, is_it, "{layer}.{head}: {nats}");
            }
        }
    }

    /// Nothing is asked of a model that holds no such prompts, and both runs differ before the
    /// separator alone.
    #[test]
    fn prompts_are_pairs() {
        let allowed: Vec<u32> = (1..200).collect();
        let source = Source { start: 0, allowed: &allowed, tokenizer: None };
        let pairs = source.of_tokens(9, 64);
        assert_eq!(pairs.len(), 9);
        for Pair { with, without } in &pairs {
            assert_eq!((with.len(), without.len()), (58, 58));
            assert_eq!((with[0], &with[31..]), (0, &without[31..]));
            assert!(with[1..31].iter().all(|id| !without[1..31].contains(id)));
            // What should follow followed before.
            let end = &with[with.len() - 2..];
            assert!(with[1..31].windows(2).any(|pair| pair == end));
            assert!(!without[1..31].contains(&end[0]));
        }
        assert!(source.of_tokens(9, 11).is_empty());
        let few = Source { allowed: &allowed[..11], ..source };
        assert!(few.of_tokens(9, 64).is_empty());
    }
}
