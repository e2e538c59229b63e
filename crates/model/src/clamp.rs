use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, ModelConfig};

/// A constraint on attention patterns that is part of a model: it holds in training and in
/// everything done with the model later. An intervention that gives a pattern wins over it.
///
/// The paper has none; it changes the architecture to move the phase change (paper.md, 6: argument
/// 2), this changes what one head, or one kind of attention, may do.
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
    /// No head attends to what followed an earlier copy of the current token: see
    /// [`ForbiddenKeys`]. The rest of each row is what it would be without the forbidden scores.
    ForbidInduction,
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
    ForbidInduction,
}

impl TryFrom<Written> for Clamp {
    type Error = String;

    fn try_from(Written { kind, layer, head }: Written) -> Result<Self, String> {
        let mut given = BTreeMap::from([("layer", layer), ("head", head)]);
        let mut take = |name: &str| {
            given.remove(name).flatten().ok_or_else(|| format!("missing field `{name}`"))
        };
        let clamp = match kind {
            Kind::PreviousToken => {
                Self::PreviousToken { layer: take("layer")?, head: take("head")? }
            }
            Kind::ForbidInduction => Self::ForbidInduction,
        };
        match given.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => Err(format!("unknown field `{name}`")),
            None => Ok(clamp),
        }
    }
}

impl Clamp {
    /// Whether it takes keys from queries: whether [`ForbiddenKeys`] has any to name.
    pub fn forbids(self) -> bool {
        !matches!(self, Self::PreviousToken { .. })
    }

    pub(crate) fn validate(self, config: &ModelConfig) -> Result<(), Error> {
        let Self::PreviousToken { layer, head } = self else { return Ok(()) };
        for (field, found, count) in
            [("clamp.layer", layer, config.n_layers), ("clamp.head", head, config.n_heads)]
        {
            if found >= count {
                let expected = format!("a whole number below {count}, counted from 0");
                return Err(Error::Config { field, found: found.to_string(), expected });
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
    /// Those that `clamp` takes on `tokens`.
    pub fn new(clamp: Option<Clamp>, tokens: &[u32]) -> Self {
        let mut keys = Self::default();
        keys.set(clamp, tokens);
        keys
    }

    /// Of one query alone. Keys behind it are forbidden to it anyway.
    pub fn of_query(query: usize, keys: Vec<u32>) -> Self {
        let mut spans = vec![[0; 2]; query];
        spans.push([0, keys.len() as u32]);
        Self { spans, keys }
    }

    /// Becomes those that `clamp` takes on `tokens`, in the memory that is there.
    pub fn set(&mut self, clamp: Option<Clamp>, tokens: &[u32]) {
        self.spans.clear();
        self.keys.clear();
        match clamp {
            None | Some(Clamp::PreviousToken { .. }) => {}
            Some(Clamp::ForbidInduction) => self.forbid_induction(tokens),
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
        let mut keys = ForbiddenKeys::new(Some(Clamp::ForbidInduction), &[5, 1, 2, 1, 1]);
        let of = |query: usize| keys.of(query).to_vec();
        assert_eq!(
            [of(0), of(1), of(2), of(3), of(4)],
            [vec![], vec![], vec![], vec![2], vec![2, 4]]
        );
        // By the definition, pair by pair, in memory that held another sequence.
        for (length, kinds) in [(0u32, 1), (1, 1), (40, 1), (57, 3), (64, 11), (30, 100)] {
            let tokens: Vec<u32> = (0..length).map(|at| at * at * 7 % 31 % kinds).collect();
            keys.set(Some(Clamp::ForbidInduction), &tokens);
            for query in 0..tokens.len() {
                let expected = (1..=query)
                    .filter(|&key| tokens[key - 1] == tokens[query])
                    .map(|key| key as u32);
                assert!(keys.of(query).iter().copied().eq(expected), "query {query} of {tokens:?}");
            }
            keys.set(None, &tokens);
            assert_eq!(keys, ForbiddenKeys::default());
        }
    }

    #[test]
    fn specs_read_it_and_refuse_what_is_not_there() {
        let parse = |text: &str| serde_json::from_str::<Clamp>(text);
        let clamp = Clamp::PreviousToken { layer: 0, head: 1 };
        assert!(parse(r#"{"kind":"forbid"}"#).is_err());
        assert!(parse(r#"{"kind":"previous-token","layer":0,"head":1,"surplus":1}"#).is_err());
        assert!(parse(r#"{"kind":"forbid-induction","layer":0}"#).is_err());
        assert!(parse(r#"{"kind":"previous-token","layer":0}"#).is_err());
        let config = |clamp| ModelConfig { clamp: Some(clamp), ..ModelConfig::default() };
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
            (Clamp::ForbidInduction, r#"{"kind":"forbid-induction"}"#),
        ] {
            assert_eq!(serde_json::to_string(&clamp).unwrap(), text);
            assert_eq!(parse(text).unwrap(), clamp);
        }
        let plain = serde_json::to_string(&ModelConfig::default()).unwrap();
        assert!(!plain.contains("clamp"), "what has none is written as before");
    }
}
