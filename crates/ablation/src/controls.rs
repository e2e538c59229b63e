use rand::seq::SliceRandom;

use crate::HeadId;

/// As many heads as a set under study has, drawn from heads that play no part in what is claimed of
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlSet {
    /// In order.
    pub heads: Vec<HeadId>,
    /// Whether each layer gives as many heads as it gives to the set under study.
    pub matched: bool,
}

/// Draws that find nothing new before a search ends.
const PATIENCE: usize = 200;

/// Up to `count` different control sets for `studied` out of `pool`, a function of the arguments
/// alone: those with as many heads of each layer first, others while there are too few. Empty if
/// the pool has fewer heads than `studied`.
pub fn control_sets(
    studied: &[HeadId],
    pool: &[HeadId],
    count: usize,
    seed: u64,
) -> Vec<ControlSet> {
    let mut rng = induction_random::stream(seed, "control heads", 0);
    let mut sets: Vec<ControlSet> = Vec::new();
    for matched in [true, false] {
        let mut misses = 0;
        while sets.len() < count && misses < PATIENCE {
            let mut shuffled = pool.to_vec();
            shuffled.shuffle(&mut rng);
            let mut heads: Vec<HeadId> =
                if matched { same_layers(studied, &shuffled) } else { shuffled };
            heads.truncate(studied.len());
            if heads.len() < studied.len() || heads.is_empty() {
                break;
            }
            heads.sort();
            if sets.iter().any(|set| set.heads == heads) {
                misses += 1;
            } else {
                sets.push(ControlSet { heads, matched });
            }
        }
    }
    sets
}

/// The first heads of `pool` that fill each layer's place in `studied`; fewer where a layer has too
/// few.
fn same_layers(studied: &[HeadId], pool: &[HeadId]) -> Vec<HeadId> {
    let mut left = pool.to_vec();
    let mut chosen = Vec::new();
    for wanted in studied {
        if let Some(at) = left.iter().position(|head| head.layer == wanted.layer) {
            chosen.push(left.remove(at));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(ids: &[(usize, usize)]) -> Vec<HeadId> {
        ids.iter().map(|&(layer, head)| HeadId { layer, head }).collect()
    }

    #[test]
    fn matched_sets_come_first_and_none_twice() {
        let studied = heads(&[(1, 0), (1, 3)]);
        let pool = heads(&[(0, 0), (0, 2), (0, 3), (1, 1), (1, 2)]);
        let sets = control_sets(&studied, &pool, 20, 0);
        assert_eq!(sets.len(), 10, "all pairs of five");
        assert_eq!(sets[0], ControlSet { heads: heads(&[(1, 1), (1, 2)]), matched: true });
        assert!(sets[1..].iter().all(|set| !set.matched));
        for (at, set) in sets.iter().enumerate() {
            assert!(set.heads.iter().all(|head| pool.contains(head)));
            assert!(sets[..at].iter().all(|other| other.heads != set.heads));
        }
        assert_eq!(sets, control_sets(&studied, &pool, 20, 0));
    }

    #[test]
    fn a_pool_that_is_too_small_gives_none() {
        assert!(control_sets(&heads(&[(1, 0), (1, 3)]), &heads(&[(1, 1)]), 20, 0).is_empty());
        assert!(control_sets(&[], &heads(&[(1, 1)]), 20, 0).is_empty());
    }
}
