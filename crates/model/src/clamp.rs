use std::{collections::BTreeMap, fmt::Formatter, ops::Deref};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use crate::{Error, ModelConfig};

/// A constraint on heads that is part of a model: it holds in training and in everything done with
/// the model later. An intervention that gives a pattern wins over it, and a pattern that is given
/// over keys that are forbidden.
///
/// The paper has none; it changes the architecture to move the phase change (paper.md, 6: argument
/// 2), these give or take one part of the circuit, as Singh et al. (2024, arXiv 2404.07129) do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", try_from = "Written")]
#[non_exhaustive]
pub enum Clamp {
    /// This head attends to the previous position alone, position 0 to itself, whatever its queries
    /// and keys say.
    PreviousToken {
        /// From 0.
        layer: usize,
        /// From 0.
        head: usize,
    },
    /// This head attends to what followed the latest earlier copy of the current token alone, and
    /// to position 0 where there is none, whatever its queries and keys say: the match is given.
    Match {
        /// From 0.
        layer: usize,
        /// From 0.
        head: usize,
    },
    /// This head adds to each logit `ln(d_vocab)` times its attention on that token, in place of
    /// what its values and outputs would write: its full OV circuit is the identity, so that a
    /// token attended to has even odds against all others together where nothing else is known. The
    /// copy is given.
    Copy {
        /// From 0.
        layer: usize,
        /// From 0.
        head: usize,
    },
    /// This head writes nothing.
    Off {
        /// From 0.
        layer: usize,
        /// From 0.
        head: usize,
    },
    /// No head attends to what followed an earlier copy of the current token: see
    /// [`ForbiddenKeys`]. The rest of each row is what it would be without the forbidden scores.
    ForbidInduction,
    /// No head attends to the previous position.
    ForbidPreviousToken,
}

/// What a clamped head attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The previous position.
    Previous,
    /// What followed the latest earlier copy.
    Match,
}

impl Given {
    /// The one position that each query of `tokens` attends to, into `out`.
    pub fn sources(self, tokens: &[u32], out: &mut Vec<u32>) {
        out.clear();
        match self {
            Self::Previous => out.extend((0..tokens.len() as u32).map(|t| t.saturating_sub(1))),
            Self::Match => {
                let mut followed = std::collections::HashMap::new();
                out.extend(
                    (1..)
                        .zip(tokens)
                        .map(|(next, token)| followed.insert(token, next).unwrap_or(0)),
                );
            }
        }
    }
}

/// A clamp as files have it. By serde's own tags, a variant without braces would ignore unknown
/// keys, and an error would not say where a key stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: Kind,
    layer: Option<usize>,
    head: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    PreviousToken,
    Match,
    Copy,
    Off,
    ForbidInduction,
    ForbidPreviousToken,
}

impl TryFrom<Written> for Clamp {
    type Error = String;

    fn try_from(Written { kind, layer, head }: Written) -> Result<Self, String> {
        let mut given = BTreeMap::from([("layer", layer), ("head", head)]);
        let mut take = |name: &str| {
            given.remove(name).flatten().ok_or_else(|| format!("missing field `{name}`"))
        };
        let mut place = || Ok::<_, String>((take("layer")?, take("head")?));
        let clamp = match kind {
            Kind::PreviousToken => {
                place().map(|(layer, head)| Self::PreviousToken { layer, head })?
            }
            Kind::Match => place().map(|(layer, head)| Self::Match { layer, head })?,
            Kind::Copy => place().map(|(layer, head)| Self::Copy { layer, head })?,
            Kind::Off => place().map(|(layer, head)| Self::Off { layer, head })?,
            Kind::ForbidInduction => Self::ForbidInduction,
            Kind::ForbidPreviousToken => Self::ForbidPreviousToken,
        };
        match given.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => Err(format!("unknown field `{name}`")),
            None => Ok(clamp),
        }
    }
}

impl Clamp {
    /// The head that it is about; none if it is about all of them.
    pub fn head(self) -> Option<(usize, usize)> {
        match self {
            Self::PreviousToken { layer, head }
            | Self::Match { layer, head }
            | Self::Copy { layer, head }
            | Self::Off { layer, head } => Some((layer, head)),
            Self::ForbidInduction | Self::ForbidPreviousToken => None,
        }
    }

    /// Whether it takes a key, not after the query, from the query of every head.
    fn takes(self, tokens: &[u32], query: usize, key: usize) -> bool {
        match self {
            Self::ForbidInduction => key > 0 && tokens[key - 1] == tokens[query],
            Self::ForbidPreviousToken => key + 1 == query,
            _ => false,
        }
    }

    fn given(self) -> Option<Given> {
        match self {
            Self::PreviousToken { .. } => Some(Given::Previous),
            Self::Match { .. } => Some(Given::Match),
            _ => None,
        }
    }

    /// Whether it says what its head writes.
    fn writes(self) -> bool {
        matches!(self, Self::Copy { .. } | Self::Off { .. })
    }
}

/// The clamps of a model, none of which contradicts another. In files one clamp, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clamps(Vec<Clamp>);

impl Serialize for Clamps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self[..] {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Clamps {
    /// By a visitor, as an error of serde's untagged enums would not say what is wrong.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Clamps;

            fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str("a clamp, or a list of clamps")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Clamps, A::Error> {
                Clamp::deserialize(MapAccessDeserializer::new(map)).map(Clamps::from)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Clamps, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Clamps)
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}

impl From<Clamp> for Clamps {
    fn from(clamp: Clamp) -> Self {
        Self(vec![clamp])
    }
}

impl FromIterator<Clamp> for Clamps {
    fn from_iter<I: IntoIterator<Item = Clamp>>(clamps: I) -> Self {
        Self(clamps.into_iter().collect())
    }
}

impl Deref for Clamps {
    type Target = [Clamp];

    fn deref(&self) -> &[Clamp] {
        &self.0
    }
}

impl Clamps {
    /// Whether they take keys from queries: whether [`ForbiddenKeys`] has any to name.
    pub fn forbid(&self) -> bool {
        self.iter().any(|clamp| clamp.head().is_none())
    }

    /// Whether any of them is about a head of this layer.
    pub fn any_in(&self, layer: usize) -> bool {
        self.iter().any(|clamp| clamp.head().is_some_and(|(of, _)| of == layer))
    }

    /// Whether any head is made to attend so.
    pub fn give(&self, given: Given) -> bool {
        self.iter().any(|clamp| clamp.given() == Some(given))
    }

    /// What a head is made to attend to, if anything.
    pub fn given(&self, layer: usize, head: usize) -> Option<Given> {
        self.of(layer, head).find_map(Clamp::given)
    }

    /// Whether a head's values and outputs are left out: it is off, or copies.
    pub fn silent(&self, layer: usize, head: usize) -> bool {
        self.of(layer, head).any(Clamp::writes)
    }

    /// Whether a head copies what it attends to into the logits.
    pub fn copies(&self, layer: usize, head: usize) -> bool {
        self.of(layer, head).any(|clamp| matches!(clamp, Clamp::Copy { .. }))
    }

    /// Whether any head copies what it attends to into the logits.
    pub fn any_copies(&self) -> bool {
        self.iter().any(|clamp| matches!(clamp, Clamp::Copy { .. }))
    }

    fn of(&self, layer: usize, head: usize) -> impl Iterator<Item = Clamp> {
        self.iter().copied().filter(move |clamp| clamp.head() == Some((layer, head)))
    }

    pub(crate) fn validate(&self, config: &ModelConfig) -> Result<(), Error> {
        let fail = |field, found: String, expected: &str| {
            Err(Error::Config { field, found, expected: expected.to_string() })
        };
        for (at, clamp) in self.iter().enumerate() {
            let Some((layer, head)) = clamp.head() else {
                if self[..at].contains(clamp) {
                    return fail("clamp", "the same twice".into(), "each once");
                }
                continue;
            };
            for (field, found, count) in
                [("clamp.layer", layer, config.n_layers), ("clamp.head", head, config.n_heads)]
            {
                if found >= count {
                    let expected = format!("a whole number below {count}, counted from 0");
                    return fail(field, found.to_string(), &expected);
                }
            }
            let same = |other: &&Clamp| {
                other.head() == clamp.head()
                    && (other.given().is_some() && clamp.given().is_some()
                        || other.writes() && clamp.writes())
            };
            if self[..at].iter().any(|other| same(&other)) {
                let found = format!("two that exclude each other at {layer}.{head}");
                return fail(
                    "clamp",
                    found,
                    "one that gives a head's pattern and one that says what it writes, at most",
                );
            }
        }
        Ok(())
    }
}

/// The keys that a clamp takes from each query of a sequence, beside those after it. Every query
/// keeps one at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForbiddenKeys {
    /// One a query: where its keys begin and end in `keys`. Empty if nothing is forbidden.
    spans: Vec<[u32; 2]>,
    /// What the spans point into: they may share parts, so that no list grows with the square of
    /// the sequence.
    keys: Vec<u32>,
}

impl ForbiddenKeys {
    /// Those that `clamps` take on `tokens`.
    pub fn new(clamps: &[Clamp], tokens: &[u32]) -> Self {
        let mut keys = Self::default();
        keys.set(clamps, tokens);
        keys
    }

    /// Of one query alone. Keys behind it are forbidden to it anyway.
    pub fn of_query(query: usize, keys: Vec<u32>) -> Self {
        let mut spans = vec![[0; 2]; query];
        spans.push([0, keys.len() as u32]);
        Self { spans, keys }
    }

    /// Becomes those that `clamps` take on `tokens`, in the memory that is there.
    pub fn set(&mut self, clamps: &[Clamp], tokens: &[u32]) {
        self.spans.clear();
        self.keys.clear();
        let forbidding = || clamps.iter().filter(|clamp| clamp.head().is_none());
        if forbidding().eq([&Clamp::ForbidInduction]) {
            self.forbid_induction(tokens);
        } else if forbidding().next().is_some() {
            for query in 0..tokens.len() {
                let from = self.keys.len();
                let taken = (0..=query)
                    .filter(|&key| forbidding().any(|clamp| clamp.takes(tokens, query, key)));
                self.keys.extend(taken.map(|key| key as u32));
                // One that would have no key left keeps itself.
                self.keys.truncate(from + query);
                self.spans.push([from as u32, self.keys.len() as u32]);
            }
        }
    }

    /// `key >= 1` for `query >= key` where `tokens[key - 1] == tokens[query]`; never key 0. `keys`
    /// becomes what follows each position, sorted by the position's token: a query's keys follow
    /// the earlier copies of its token, so they are the first of that token's.
    fn forbid_induction(&mut self, tokens: &[u32]) {
        self.keys.extend(0..tokens.len() as u32);
        self.keys.sort_unstable_by_key(|&at| (tokens[at as usize], at));
        self.spans.resize(tokens.len(), [0; 2]);
        let (mut first, mut current) = (0, None);
        for (index, key) in self.keys.iter_mut().enumerate() {
            let (index, query) = (index as u32, *key as usize);
            if current.replace(tokens[query]) != Some(tokens[query]) {
                first = index;
            }
            self.spans[query] = [first, index];
            *key += 1;
        }
    }

    /// Of one query, ascending; none if nothing is forbidden.
    pub fn of(&self, query: usize) -> &[u32] {
        self.spans.get(query).map_or(&[], |&[from, to]| &self.keys[from as usize..to as usize])
    }

    /// `(spans, keys)`: query `i` has `keys[spans[i][0]..spans[i][1]]`; spans may overlap.
    pub fn parts(&self) -> (&[[u32; 2]], &[u32]) {
        (&self.spans, &self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_are_the_followers_of_earlier_copies() {
        let mut keys = ForbiddenKeys::new(&[Clamp::ForbidInduction], &[5, 1, 2, 1, 1]);
        let of = |query: usize| keys.of(query).to_vec();
        assert_eq!(
            [of(0), of(1), of(2), of(3), of(4)],
            [vec![], vec![], vec![], vec![2], vec![2, 4]]
        );
        // By the definition, pair by pair, in memory that held another sequence.
        for (length, kinds) in [(0u32, 1), (1, 1), (40, 1), (57, 3), (64, 11), (30, 100)] {
            let tokens: Vec<u32> = (0..length).map(|at| at * at * 7 % 31 % kinds).collect();
            keys.set(&[Clamp::ForbidInduction], &tokens);
            for query in 0..tokens.len() {
                let expected = (1..=query)
                    .filter(|&key| tokens[key - 1] == tokens[query])
                    .map(|key| key as u32);
                assert!(keys.of(query).iter().copied().eq(expected), "query {query} of {tokens:?}");
            }
            keys.set(&[], &tokens);
            assert_eq!(keys, ForbiddenKeys::default());
        }
    }

    #[test]
    fn forbidden_are_previous_positions_too() {
        let both = [Clamp::ForbidInduction, Clamp::ForbidPreviousToken];
        for (length, kinds) in [(1u32, 1), (2, 1), (9, 1), (40, 3), (64, 11)] {
            let tokens: Vec<u32> = (0..length).map(|at| at * at * 7 % 31 % kinds).collect();
            let previous = ForbiddenKeys::new(&both[1..], &tokens);
            let all = ForbiddenKeys::new(&both, &tokens);
            for query in 0..tokens.len() {
                let is_previous = |key: usize| key + 1 == query;
                let follows = |key: usize| key > 0 && tokens[key - 1] == tokens[query];
                let of = |forbids: &dyn Fn(usize) -> bool| -> Vec<u32> {
                    (0..=query).filter(|&key| forbids(key)).map(|key| key as u32).collect()
                };
                assert_eq!(previous.of(query), of(&is_previous));
                let mut expected = of(&|key| is_previous(key) || follows(key));
                if expected.len() > query {
                    expected.pop();
                }
                assert_eq!(all.of(query), expected, "query {query} of {tokens:?}");
            }
        }
    }

    #[test]
    fn given_are_the_position_before_and_the_latest_match() {
        let mut sources = Vec::new();
        Given::Match.sources(&[7, 1, 2, 1, 1, 2, 7], &mut sources);
        assert_eq!(sources, [0, 0, 0, 2, 4, 3, 1]);
        Given::Previous.sources(&[7, 1, 2], &mut sources);
        assert_eq!(sources, [0, 0, 1]);
    }

    #[test]
    fn those_that_contradict_each_other_are_refused() {
        let at = |clamps: &[Clamp]| {
            let clamp = clamps.iter().copied().collect();
            ModelConfig { clamp, ..ModelConfig::default() }.validate()
        };
        let (layer, head) = (1, 2);
        let given = Clamp::Match { layer, head };
        at(&[given, Clamp::Copy { layer, head }, Clamp::ForbidPreviousToken]).unwrap();
        for two in [
            [given, Clamp::PreviousToken { layer, head }],
            [Clamp::Copy { layer, head }, Clamp::Off { layer, head }],
            [Clamp::ForbidInduction; 2],
        ] {
            assert!(at(&two).unwrap_err().to_string().starts_with("model.clamp = "));
        }
        let list = r#"[{"kind":"match","layer":1,"head":2},{"kind":"forbid-previous-token"}]"#;
        let clamps: Clamps = serde_json::from_str(list).unwrap();
        assert_eq!((serde_json::to_string(&clamps).unwrap().as_str(), clamps.len()), (list, 2));
    }

    #[test]
    fn specs_read_it_and_refuse_what_is_not_there() {
        let parse = |text: &str| serde_json::from_str::<Clamp>(text);
        let clamp = Clamp::PreviousToken { layer: 0, head: 1 };
        assert!(parse(r#"{"kind":"forbid"}"#).is_err());
        assert!(parse(r#"{"kind":"previous-token","layer":0,"head":1,"surplus":1}"#).is_err());
        assert!(parse(r#"{"kind":"forbid-induction","layer":0}"#).is_err());
        assert!(parse(r#"{"kind":"previous-token","layer":0}"#).is_err());
        let config = |clamp: Clamp| ModelConfig { clamp: clamp.into(), ..ModelConfig::default() };
        config(clamp).validate().unwrap();
        for (layer, head, field) in
            [(2, 0, "model.clamp.layer = 2"), (0, 4, "model.clamp.head = 4")]
        {
            let error =
                config(Clamp::PreviousToken { layer, head }).validate().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        for (clamp, text) in [
            (clamp, r#"{"kind":"previous-token","layer":0,"head":1}"#),
            (Clamp::Off { layer: 1, head: 0 }, r#"{"kind":"off","layer":1,"head":0}"#),
            (Clamp::ForbidInduction, r#"{"kind":"forbid-induction"}"#),
        ] {
            assert_eq!(serde_json::to_string(&clamp).unwrap(), text);
            assert_eq!(parse(text).unwrap(), clamp);
        }
        let plain = serde_json::to_string(&ModelConfig::default()).unwrap();
        assert!(!plain.contains("clamp"), "what has none is written as before");
    }
}
