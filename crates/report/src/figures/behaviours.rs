//! Argument 4: the heads that do literal copying, translation and pattern matching (T1, F12 to
//! F14).

use induction_records::BehaviourScores;

use super::{Axis, Colours, Figure, Heat, Panel, axis, capital, files, verdicts};
use crate::Claim;
use crate::experiment::{Experiment, Trained, best_on};
use crate::load::Prompt;
use crate::text::{number, percent, rounded};

const PROMPTS: &str = "prompts.jsonl";

struct Behaviour {
    id: &'static str,
    name: &'static str,
    title: &'static str,
    drawn: &'static str,
    paper: &'static str,
    /// The paper's head, of 40 layers: layer, copying, prefix matching (paper.md, 6).
    head: &'static str,
}

const BEHAVIOURS: [Behaviour; 3] = [
    Behaviour {
        id: "F12",
        name: "literal copying",
        title: "Literal copying",
        drawn: "A passage told twice, word for word. In the second telling a copying head attends to what followed the same word in the first: a diagonal below the main one.",
        paper: "A sharp diagonal: repeated sentences are attended one token ahead, and copied.",
        head: "layer 21 of 40, copying 0.89, prefix matching 0.75",
    },
    Behaviour {
        id: "F13",
        name: "translation",
        title: "Translation",
        drawn: "One sentence in English, French and German. Before each word of the later lines the right place to look is the same word in the earlier ones.",
        paper: "A wandering off-diagonal, as word order differs; logit attribution is positive on balance and not sharp.",
        head: "layer 7 of 40, copying 0.20, prefix matching 0.85",
    },
    Behaviour {
        id: "F14",
        name: "pattern matching",
        title: "Pattern matching",
        drawn: "Lines such as \u{201c}april frog:0\u{201d}, where the digit says which kinds the two words are of. Before a digit the right places to look are the digits of earlier lines of the same kinds.",
        paper: "About 65 % of the attention from the colon goes to the right digits.",
        head: "layer 26 of 40, copying 0.69, prefix matching 0.94",
    },
];

/// T1 and F12 to F14; nothing if no model read the prompts.
pub(super) fn behaviours(lead: &Experiment<'_>, claims: &[Claim]) -> Vec<Figure> {
    let found: Vec<_> =
        BEHAVIOURS.iter().filter_map(|of| Some((of, best_on(lead, of.name)?))).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let mut all = vec![t1(&found, claims)];
    all.extend(found.iter().filter_map(|(of, (model, score))| maps(of, model, score, claims)));
    all
}

pub(super) fn with_error(share: f64, stderr: Option<f64>) -> String {
    match stderr {
        Some(stderr) => format!("{} ± {}", percent(share), percent(1.96 * stderr)),
        None => percent(share),
    }
}

fn t1(found: &[(&Behaviour, (&Trained<'_>, &BehaviourScores))], claims: &[Claim]) -> Figure {
    let head = [
        "behaviour",
        "head here",
        "copying",
        "prefix matching",
        "attention on right places",
        "chance",
        "of that on such places",
        "chance",
        "added to the right logit",
        "the paper's head",
    ];
    let mut table = vec![head.map(str::to_string).to_vec()];
    let mut said = Vec::new();
    for (of, (model, score)) in found {
        let measured = model.last_heads().iter().find(|head| head.id() == score.id());
        let (copying, matching) =
            measured.map_or((f64::NAN, f64::NAN), |head| (head.copying, head.prefix_matching));
        table.push(vec![
            of.name.to_string(),
            format!("{} of {}", score.id(), model.variant.label()),
            number(copying),
            number(matching),
            with_error(score.share, score.share_stderr),
            percent(score.chance),
            with_error(score.share_among, score.share_among_stderr),
            percent(score.chance_among),
            format!("{} nats", number(score.attribution)),
            of.head.to_string(),
        ]);
        said.push(format!(
            "{}: head {} of {}, {} of its attention (chance {})",
            capital(of.name),
            score.id(),
            model.variant.label(),
            percent(score.share),
            percent(score.chance)
        ));
    }
    Figure {
        id: "T1",
        title: "Three behaviours, and the heads that do them",
        drawn: "For each behaviour the head of these models with the largest share of its attention on the right places, chosen among all: expect the largest of many to lie a little high. Chance: attention spread evenly over all earlier positions, and over those of the right kind. \u{201c}\u{b1}\u{201d}: 95 %, over prompts.".to_string(),
        paper: "Three heads of the 40-layer model, all of which match prefixes and copy on random tokens, do these abstract things too.",
        here: format!("{}. {}", said.join("; "), verdicts(claims, &["Q20"])),
        files: found.iter().flat_map(|(_, (model, _))| files(std::iter::once(*model), PROMPTS)).fold(Vec::new(), |mut all, file| {
            if !all.contains(&file) {
                all.push(file);
            }
            all
        }),
        table,
        ..Figure::empty()
    }
}

fn maps(
    of: &Behaviour,
    model: &Trained<'_>,
    score: &BehaviourScores,
    claims: &[Claim],
) -> Option<Figure> {
    let explored = model.run.explored.as_ref()?;
    let prompt = explored.prompts.iter().find(|prompt| prompt.behaviour == of.name)?;
    let head = score.layer * model.run.spec.model.n_heads + score.head;
    let n = prompt.maps.positions;
    let rows = |value: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
        (0..n)
            .map(|query| {
                (0..n)
                    .map(|key| if key > query { 0.0 } else { rounded(value(query, key)) })
                    .collect()
            })
            .collect()
    };
    let panel = |title: &str, z: Vec<Vec<f64>>, range, colours, unit| {
        let down = Axis { down: true, ..axis("attends") };
        let mut panel = Panel::new(title, axis("is attended to"), down);
        let places: Vec<f64> = (0..n).map(|k| k as f64).collect();
        let labels = prompt.tokens[..n].to_vec();
        panel.heat = Some(Heat { x: places.clone(), y: places, z, range, colours, unit, labels });
        panel.summary = format!("{title} of head {} on {n} tokens.", score.id());
        panel
    };
    let attribution = rows(&|query, key| prompt.maps.attribution(head, query, key));
    let largest =
        attribution.iter().flatten().fold(0.0f64, |largest, x| largest.max(x.abs())).max(1e-6);
    let panels = vec![
        panel(
            "Attention",
            rows(&|query, key| prompt.maps.attention(head, query, key)),
            [0.0, 1.0],
            Colours::Sequential,
            "",
        ),
        panel(
            "Added to the next token's logit",
            attribution,
            [-rounded(largest), rounded(largest)],
            Colours::Diverging,
            "nats",
        ),
    ];
    Some(Figure {
        id: of.id,
        title: of.title,
        drawn: format!(
            "Head {} of the model with {}. {}",
            score.id(),
            model.variant.label(),
            of.drawn
        ),
        paper: of.paper,
        here: format!(
            "{} of the attention from {} judged positions goes to right places ({} by chance), {} of that on places of the right kind ({} by chance). {}",
            percent(on_this(prompt, head)),
            prompt.queries.len(),
            percent(score.chance),
            percent(score.share_among),
            percent(score.chance_among),
            verdicts(claims, &["Q20"])
        ),
        files: files(std::iter::once(model), PROMPTS),
        panels,
        ..Figure::empty()
    })
}

/// The share of one head on the prompt that is drawn; the table has the mean over all.
fn on_this(prompt: &Prompt, head: usize) -> f64 {
    let of = |(at, targets): &(usize, Vec<usize>)| {
        targets.iter().map(|&key| prompt.maps.attention(head, *at, key)).sum::<f64>()
    };
    prompt.queries.iter().map(of).sum::<f64>() / prompt.queries.len().max(1) as f64
}
