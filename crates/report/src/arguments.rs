//! The paper's six arguments: what each claims, how it is tested here, and what it cannot show.

use crate::RULES;

/// A section of the page.
pub(crate) struct Argument {
    /// Which of the paper's; none for what is asked of trained models.
    pub(crate) number: Option<u8>,
    /// The anchor, too.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) claim: &'static str,
    pub(crate) experiment: &'static str,
    /// What would be wrong to conclude from it.
    pub(crate) not_shown: &'static str,
    /// Figures, in their order; those that are not there are left out.
    pub(crate) figures: &'static [&'static str],
}

pub(crate) const ARGUMENTS: [Argument; 6] = [
    Argument {
        number: Some(1),
        id: "argument-1",
        title: "Argument 1: they come at the same time",
        claim: "Induction heads form in the same narrow window of training in which in-context learning improves.",
        experiment: "Models of one to several layers are trained on text, with dense snapshots. At each, in-context learning is measured on held-out text and every head's attention on random tokens that repeat: two measurements that share no data.",
        not_shown: "That one causes the other. Whatever comes at the same time, other heads or other circuits, would look the same here.",
        figures: &["F3", "F4", "F5", "F6", "F7", "F8", "F9", "stages", "copies", "controls"],
    },
    Argument {
        number: Some(2),
        id: "argument-2",
        title: "Argument 2: they move together",
        claim: "A change of architecture that lets induction heads form with fewer layers, or earlier, does the same to in-context learning.",
        experiment: "Keys are smeared: each is mixed with the one before, by a share that each head learns. A head then sees what came before a token without a previous-token head below it. Beside it, our own: attention clamped while the model learns.",
        not_shown: "That nothing else profits from smeared keys, nor what larger models would do.",
        figures: &["F10", "clamps"],
    },
    Argument {
        number: Some(3),
        id: "argument-3",
        title: "Argument 3: without them it is gone",
        claim: "Knocking induction heads out of a trained model removes most of its in-context learning, in small attention-only models almost all of it.",
        experiment: "Every head is removed, one at a time, at many snapshots, with every attention pattern kept as it was or with everything above free to change; then all induction heads at once, against as many others.",
        not_shown: "What happens in large models, where the paper removed nothing. With patterns kept, a head whose work is to shape another's attention seems to do nothing; with MLPs, what lies downstream can make up for a loss.",
        figures: &["F11", "full-ablations", "before-after"],
    },
    Argument {
        number: Some(4),
        id: "argument-4",
        title: "Argument 4: the same heads do more abstract things",
        claim: "Heads that complete repeated random tokens also copy literally, translate and match patterns, so that one mechanism can stand behind many kinds of in-context learning.",
        experiment: "Three kinds of prompts are put to the last snapshot of each model. For each, the attention before a word goes, or does not go, to the places from which the word could be known.",
        not_shown: "Anything about abstraction, where the models are too small to know a language: look at what chance gives. And in the paper, that these heads are why a large model can do it: the heads were chosen by hand.",
        figures: &["T1", "F12", "F13", "F14"],
    },
    Argument {
        number: Some(5),
        id: "argument-5",
        title: "Argument 5: the circuit is understood",
        claim: "A previous-token head writes into each place which token came before; an induction head reads it through its keys (K-composition), attends to what followed the current token before, and copies it.",
        experiment: "What heads do is compared with what their weights say; what one head reads where something can be copied is carried to where it cannot; ideal patterns take the place of a head's own; single paths between heads are cut.",
        not_shown: "That the circuit is all these heads do. Weights say what a head can do, not when it does it.",
        figures: &["progress", "A2", "A5", "A3", "A4"],
    },
    Argument {
        number: Some(6),
        id: "argument-6",
        title: "Argument 6: from small models to large ones",
        claim: "All measurements look alike from the smallest models to the largest, so the explanation should hold for those, too.",
        experiment: "The same measurements on models of 1 to 6 layers, with and without MLPs, as far as they are here.",
        not_shown: "Anything about models larger than these, and those that are scanned. The paper's largest has 13 billion parameters; when heads form in models of more than 6 layers is not tested here. And an analogy is no proof: other heads that need two layers may form at the same time.",
        figures: &["A1", "C1", "C2", "C3", "C4"],
    },
];

/// What the arguments ask of trained models; a section where one is scanned.
pub(crate) const REAL_MODELS: Argument = Argument {
    number: None,
    id: "real-models",
    title: "Real models",
    claim: "Models trained by others, on other text and far larger than ours, have heads that match prefixes; these do what the paper's large models showed (arguments 4 and 6), and without them repeats are no longer copied.",
    experiment: "Each model is scanned: scores of all heads on random tokens, losses on random tokens that repeat, with the heads that match prefixes removed and with as many random ones, and attention on the prompts of argument 4.",
    not_shown: "When these heads formed, unless a series of checkpoints is scanned. That they carry in-context learning on text: repeats of random tokens are what they are best at. Removing many heads at once harms a model in other ways, too, which is why random sets stand beside them.",
    figures: &[
        "R-T1",
        "R-heads",
        "R-A1",
        "R-A2",
        "R-roles",
        "R-causes",
        "R-repeats",
        "R-removed",
        "R-cut",
        "R-paths",
        "R-T2",
        "R-F12",
        "R-F13",
        "R-F14",
        "R-C2",
        "R-sizes",
        "R-series",
    ],
};

impl Argument {
    /// Whether a claim is one that it rests on.
    pub(crate) fn rests_on(&self, claim: &str) -> bool {
        let rule = RULES.iter().find(|rule| rule.id == claim);
        rule.is_some_and(|rule| match self.number {
            Some(number) => rule.argument == number,
            None => rule.is_about_models(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_belongs_to_one_argument_and_is_seen_somewhere() {
        for rule in RULES {
            let count = ARGUMENTS.iter().filter(|argument| argument.rests_on(rule.id)).count();
            assert_eq!(count, 1, "{}", rule.id);
            assert!(!rule.figures.is_empty(), "{}", rule.id);
        }
        let of_models =
            RULES.iter().filter(|rule| REAL_MODELS.rests_on(rule.id)).map(|rule| rule.id);
        assert_eq!(of_models.collect::<Vec<_>>(), ["Q23", "M7", "M8", "M4", "M6"]);
    }
}
