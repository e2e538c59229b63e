//! Everything that is measured of a model that is there: `scan.json` (docs/FORMATS.md).

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use induction_ablation::{HeadId, control_sets};
use induction_engine::{Engine, Intervention};
use induction_metrics::{
    IclIndices, PrefixMatchingSample, RoleThresholds, icl_by_example, icl_score, loss_by_index,
    mean_stderr, paired_change,
};
use induction_records::{
    BehaviourScores, EvaluationSpec, HeadRow, IclOnText, ModelScan, Prompt, Removals, RemovedHeads,
    RemovedKind, RepeatedLosses, ScanHead, ShownText,
};
use induction_tokenizer::{Texts, Tokenizer, corpus};
use ndarray::{Array2, ArrayView3, Axis, concatenate};
use rand::seq::SliceRandom;

use super::{causes, opened::Opened, roles::stand_out};
use crate::{
    Error,
    device::Device,
    explore::{answers, prompts::prompts, shown},
    measure::Evaluators,
    source::EVALUATION_SEED,
};

/// Tokens of the block that is repeated once, for the losses of the first and the second copy.
const BLOCK: usize = 50;

/// Random sets of heads that the induction heads are held against, of each kind.
const CONTROLS: usize = 3;

/// Tokens of a window that the ICL score is taken on, as the paper has it.
const WINDOW: usize = 512;

/// Tokens of the text on which attention is kept, the start token among them.
const SHOWN: usize = 64;

/// What a scan is taken on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A corpus for the ICL score; without one there is no score.
    pub text: Option<Texts>,
    /// Its windows.
    pub windows: usize,
    /// Examples of each head evaluator and of repeated random tokens.
    pub examples: usize,
    /// Prompts of each measure of heads by cause, which are left out with 0. Unless told, as many as
    /// [`PROMPTS`](super::PROMPTS), and none of a model of more than 500 million parameters or on
    /// another device than the CPU's engine, where they take long.
    pub prompts: Option<usize>,
    /// Draws random tokens from ids below this alone. A byte-level BPE numbers its tokens in the
    /// order of its merges, so the low ones are the common ones.
    pub ids_below: Option<usize>,
}

/// Measures a model. `say` is told what comes next.
///
/// # Errors
/// A text that cannot be read or is too short, or needs a tokenizer that is not there; the engine's
/// and the metrics'.
pub fn scan_model(
    mut opened: Opened,
    settings: &Settings,
    device: Device,
    say: &dyn Fn(&str),
) -> Result<ModelScan, Error> {
    // First what can be refused: nobody waits for a minute to learn that a file is missing.
    let text = settings
        .text
        .as_ref()
        .map(|texts| windows(texts, &opened, settings.windows))
        .transpose()?;
    if let Some(limit) = settings.ids_below {
        opened.allowed.retain(|&id| (id as usize) < limit);
        if opened.allowed.len() < BLOCK {
            let (count, name) = (opened.allowed.len(), &opened.facts.name);
            return Err(Error::Input(format!(
                "--ids-below {limit}: {count} of these tokens of {name} are text by themselves; expected at least {BLOCK}"
            )));
        }
    }
    if opened.allowed.len() < 2 {
        return Err(Error::Input(format!(
            "{}: {} tokens of its vocabulary are text by themselves; expected at least 2 to make sequences of",
            opened.facts.name,
            opened.allowed.len()
        )));
    }
    let engine = opened.engine(device)?;
    let engine = engine.as_ref();
    let name = &opened.facts.name;
    let asked = opened
        .tokenizer
        .as_ref()
        .map_or_else(|_| Vec::new(), |tokenizer| prompts(tokenizer.as_ref(), opened.config.n_ctx));

    say(&format!("{name}: scores of {} heads", opened.config.n_layers * opened.config.n_heads));
    let text_rows = text_rows(&opened, settings.examples, &asked)?;
    let evaluation = evaluation(&opened, settings.examples);
    let evaluators = Evaluators::new(&evaluation, text_rows.clone(), opened.bos, &opened.allowed)?;
    let mut heads = evaluators.heads(engine, opened.weights.as_ref(), None, 0, 0)?;
    let unless_told = super::prompts_unless_told(device, opened.facts.n_params);
    let prompts = settings.prompts.unwrap_or(unless_told);
    if settings.prompts.is_none() && prompts == 0 {
        say(&format!(
            "{name}: what heads do by cause is left out, as it takes long; --prompts 16 takes it"
        ));
    }
    let (causes, mut samples) = causes::by_cause(engine, &opened, prompts, &mut heads, say)?;
    samples.extend(["prefix_matching", "duplicate_token"].map(|name| (name, settings.examples)));
    samples.extend(["previous_token", "start_token"].map(|name| (name, text_rows.nrows())));
    let copying_ceiling = match prompts {
        0 => None,
        _ => causes::copying_ceiling(&opened, evaluators.random.view())?,
    };
    let cut = causes::cut(engine, &opened, prompts, &asked, &heads, say)?;
    let paths = causes::paths(engine, &opened, prompts, &heads, say)?;
    let roles = stand_out(&heads, opened.config.n_heads, &samples);
    say(&format!("{name}: repeated random tokens"));
    let repeats = repeats(&opened, settings.examples)?;
    let (clean, of_prompts) = match asked.is_empty() {
        true => (engine.losses(repeats.view(), &[])?, None),
        false => with_losses_of(engine, &repeats, &text_rows)?,
    };
    let repeated = repeated(&clean)?;
    let (icl, indices) = match &text {
        None => (None, None),
        Some(Windows { name: text, rows, .. }) => {
            say(&format!("{name}: in-context learning on {text}"));
            let (icl, indices) = in_context(text, rows, engine)?;
            (Some(icl), Some((rows, indices)))
        }
    };
    say(&format!("{name}: without its induction heads"));
    let ablation = without(engine, &heads, &repeats, &clean, indices, opened.is_streamed())?;
    say(&format!("{name}: prompts"));
    let (behaviours, shown) = asked_and_shown(engine, &opened, &asked, text.as_ref())?;
    let mut how = opened.how;
    how.warnings.extend(short_blocks(evaluation.prefix_block, evaluation.prefix_repeats));
    how.warnings.extend(text.into_iter().flat_map(|text| text.notes));
    how.prompt_loss = of_prompts;
    let plain = of_prompts.map(|loss| ("the prompts", loss));
    for (what, loss) in plain.into_iter().chain(icl.as_ref().map(|icl| (&*icl.text, icl.loss))) {
        let uniform = (opened.facts.d_vocab as f64).ln();
        // As much, up to rounding, is what a model that knows nothing should have.
        if loss > uniform + 0.01 {
            how.warnings.push(format!(
                "{loss:.2} nats a token on {what}, more than the {uniform:.2} of a model that knows nothing: its files may not be what they say, or are read wrongly here"
            ));
        }
    }
    Ok(ModelScan {
        version: ModelScan::VERSION,
        engine: engine.name().to_string(),
        how,
        ids_below: settings.ids_below,
        copying_ceiling,
        causes,
        roles,
        cut,
        paths,
        repeated,
        icl,
        ablation,
        shown,
        behaviours,
        heads: heads
            .into_iter()
            .map(|HeadRow { layer, head, role, scores, .. }| ScanHead { layer, head, role, scores })
            .collect(),
        model: opened.facts,
    })
}

/// What the head evaluators of a model are: the paper's, as far as its context and vocabulary hold
/// them.
pub(super) fn evaluation(opened: &Opened, examples: usize) -> EvaluationSpec {
    EvaluationSpec {
        examples: 2,
        icl_early: 1,
        icl_late: 2,
        icl_half_width: 0,
        ablation_examples: 1,
        ablation_every: 0,
        weights_every: 1,
        head_examples: examples,
        prefix_block: 25.min((opened.config.n_ctx - 1) / 4).min(opened.allowed.len()),
        prefix_repeats: 4,
    }
}

/// What every head does on the prompts, and its attention on them and on other texts that are worth
/// a look.
fn asked_and_shown(
    engine: &dyn Engine,
    opened: &Opened,
    asked: &[Prompt],
    text: Option<&Windows>,
) -> Result<(Vec<BehaviourScores>, Vec<ShownText>), Error> {
    let place = |source| Error::Metric { place: "repeated random tokens".into(), source };
    let block = evaluation(opened, 1).prefix_block;
    let sample = PrefixMatchingSample { block, repeats: 2 };
    let twice = sample.batch(EVALUATION_SEED, 1, opened.bos, &opened.allowed).map_err(place)?;
    let twice = twice.into_raw_vec_and_offset().0;
    let mut others = vec![(ShownText::REPEATED, &twice[..])];
    if let Some(Windows { name, rows, .. }) = text {
        let first = rows.row(0).to_slice().expect("rows of a table in standard layout");
        others.push((name, &first[..first.len().min(SHOWN).min(opened.config.n_ctx)]));
    }
    let prompts = shown(asked);
    // Of each text its number in the sweep, its name and its tokens.
    let of_prompts = prompts.iter().map(|prompt| {
        let at = asked.iter().position(|other| std::ptr::eq(other, *prompt));
        let tokens = prompt.tokens[..prompt.ids.len() - 1].to_vec();
        (at.expect("one of those that are asked"), prompt.behaviour.clone(), tokens)
    });
    let of_others = others.iter().enumerate().map(|(k, (name, ids))| {
        let named = |&id: &u32| match &opened.tokenizer {
            Ok(tokenizer) => Ok(tokenizer.token_text(id)?),
            Err(_) => Ok(format!("#{id}")),
        };
        let tokens = ids.iter().map(named).collect::<Result<Vec<String>, Error>>()?;
        Ok((asked.len() + k, (*name).to_string(), tokens))
    });
    let mut texts = of_others.collect::<Result<Vec<_>, Error>>()?;
    // The repeated tokens first, and what a reader chose last.
    texts.splice(1..1, of_prompts);

    let of_layer =
        |tokens: &[String]| opened.config.n_heads * ShownText::bytes_of_head(tokens.len());
    let maps: Vec<Mutex<Vec<u8>>> = texts
        .iter()
        .map(|(.., tokens)| Mutex::new(vec![0; opened.config.n_layers * of_layer(tokens)]))
        .collect();
    let see = |at: usize, layer: usize, pattern: ArrayView3<'_, f32>| {
        let Some(k) = texts.iter().position(|(text, ..)| *text == at) else { return };
        let share = |a: f32| (a.clamp(0.0, 1.0) * 255.0).round() as u8;
        let rows = pattern.outer_iter().flat_map(|head| {
            let rows = head.rows().into_iter().enumerate();
            rows.flat_map(|(i, row)| row.iter().take(i + 1).map(|&a| share(a)).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        });
        let len = of_layer(&texts[k].2);
        let mut maps = maps[k].lock().unwrap_or_else(PoisonError::into_inner);
        maps[layer * len..(layer + 1) * len].copy_from_slice(&rows.collect::<Vec<_>>());
    };
    let ids: Vec<&[u32]> = others.iter().map(|(_, ids)| *ids).collect();
    let behaviours = answers(engine, opened.weights.as_ref(), asked, &ids, &see)?;
    let shown = texts.into_iter().zip(maps).map(|((_, text, tokens), maps)| ShownText {
        text,
        tokens,
        attention: ShownText::pack(&maps.into_inner().unwrap_or_else(PoisonError::into_inner)),
    });
    Ok((behaviours, shown.collect()))
}

/// What is said where evenly spread attention alone scores much of prefix matching.
fn short_blocks(block: usize, repeats: usize) -> Option<String> {
    const MUCH: f64 = 0.15;
    // At a token's `k`th copy, `k - 1` of the positions so far followed an earlier one.
    let of_copy = |k: usize| {
        let at = |place: usize| (k - 1) as f64 / ((k - 1) * block + place + 1) as f64;
        (1..=block).map(at).sum::<f64>() / block as f64
    };
    let chance = (2..=repeats).map(of_copy).sum::<f64>() / (repeats - 1) as f64;
    (chance > MUCH).then(|| {
        format!(
            "random tokens are repeated in blocks of {block}: attention that is spread evenly scores {chance:.2} of prefix matching, so that the limit of {} tells little",
            RoleThresholds::default().prefix_matching
        )
    })
}

/// Losses of both at once, since each call reads all layers of a large model: those of `repeats`,
/// and the mean of the others.
fn with_losses_of(
    engine: &dyn Engine,
    repeats: &Array2<u32>,
    rows: &Array2<u32>,
) -> Result<(Array2<f32>, Option<f64>), Error> {
    // As wide as both are, which is almost all of either.
    let mean = |losses: ndarray::ArrayView2<'_, f32>| {
        losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64
    };
    if rows.ncols() < repeats.ncols() {
        let losses = engine.losses(rows.view(), &[])?;
        return Ok((engine.losses(repeats.view(), &[])?, Some(mean(losses.view()))));
    }
    let rows = rows.slice_axis(Axis(1), (..repeats.ncols()).into());
    let both = concatenate(Axis(0), &[repeats.view(), rows]).expect("rows have one length");
    let losses = engine.losses(both.view(), &[])?;
    let (clean, others) = losses.view().split_at(Axis(0), repeats.nrows());
    Ok((clean.to_owned(), Some(mean(others))))
}

/// The prompts' text, one after the other, in windows `[window, start and tokens]`; random tokens
/// without a tokenizer.
fn text_rows(opened: &Opened, examples: usize, asked: &[Prompt]) -> Result<Array2<u32>, Error> {
    let evaluation = evaluation(opened, examples);
    if evaluation.prefix_block == 0 {
        return Err(Error::Input(format!(
            "{}: a context of {} tokens, and {} tokens that are text by themselves: nothing can be repeated four times; expected a context of 5 at least",
            opened.facts.name,
            opened.config.n_ctx,
            opened.allowed.len()
        )));
    }
    let mut ids: Vec<u32> =
        asked.iter().flat_map(|prompt| prompt.ids[1..].iter().copied()).collect();
    if ids.is_empty() {
        let mut random = opened.allowed.clone();
        random.shuffle(&mut induction_random::stream(
            EVALUATION_SEED,
            "text for previous tokens",
            0,
        ));
        ids = random.into_iter().cycle().take(4 * evaluation.prefix_block).collect();
    }
    let length = (4 * evaluation.prefix_block).min(ids.len());
    let rows: Vec<u32> = ids
        .chunks_exact(length)
        .take(examples)
        .flat_map(|row| std::iter::once(opened.bos).chain(row.to_vec()))
        .collect();
    let shape = (rows.len() / (length + 1), length + 1);
    Ok(Array2::from_shape_vec(shape, rows).expect("rows have one length"))
}

/// `[example, start and two copies of a block]`.
fn repeats(opened: &Opened, examples: usize) -> Result<Array2<u32>, Error> {
    let block = BLOCK.min((opened.config.n_ctx - 1) / 2).min(opened.allowed.len());
    let sample = PrefixMatchingSample { block, repeats: 2 };
    let place = |source| Error::Metric { place: "repeated random tokens".into(), source };
    sample.batch(EVALUATION_SEED, examples, opened.bos, &opened.allowed).map_err(place)
}

/// Mean loss of each example's first copy, and of its second without its first token.
fn copies(losses: &Array2<f32>) -> [Vec<f64>; 2] {
    let block = losses.ncols() / 2;
    let mean = |row: ndarray::ArrayView1<f32>, from: usize, to: usize| {
        row.iter().take(to).skip(from).map(|&loss| f64::from(loss)).sum::<f64>()
            / (to - from).max(1) as f64
    };
    let of =
        |from: usize, to: usize| losses.rows().into_iter().map(|row| mean(row, from, to)).collect();
    [of(0, block), of(block + 1, 2 * block)]
}

fn repeated(losses: &Array2<f32>) -> Result<RepeatedLosses, Error> {
    let [first, second] = copies(losses).map(|copy| mean_stderr(&copy));
    let by_position = loss_by_index(losses.view())
        .map_err(|source| Error::Metric { place: "losses".into(), source })?;
    Ok(RepeatedLosses {
        examples: losses.nrows(),
        block: losses.ncols() / 2,
        first: first.0,
        first_stderr: first.1,
        second: second.0,
        second_stderr: second.1,
        by_position: by_position.to_vec(),
    })
}

/// A text, cut for a model.
struct Windows {
    name: String,
    /// `[window, start and tokens]`, from as many of the documents as there are.
    rows: Array2<u32>,
    /// What a reader should know of them.
    notes: Vec<String>,
}

/// As many windows as asked for, if the text has them: whole ones of long documents, and where
/// those are too few, of what is left put together, with the start token between documents.
fn windows(texts: &Texts, opened: &Opened, count: usize) -> Result<Windows, Error> {
    let tokenizer: &dyn Tokenizer = match &opened.tokenizer {
        Ok(tokenizer) => tokenizer.as_ref(),
        Err(reason) => {
            return Err(Error::Input(format!(
                "--text {}: there is no tokenizer to read it with: {reason}; put the model's tokenizer.json beside its weights, or give token ids with `--tokens FILE`",
                texts.name()
            )));
        }
    };
    let length = WINDOW.min(opened.config.n_ctx);
    let name = texts.name();
    let corpus = corpus::load(texts.clone())?;
    let mut notes = corpus.notes(&name);
    let documents = corpus.documents;
    let each = count.div_ceil(documents.len());
    let (mut rows, mut found) = (Vec::new(), 0);
    let mut short = Vec::new();
    for document in &documents {
        // Few tokens are longer than sixteen bytes on average.
        let mut end = document.text.len().min(16 * length * each);
        while !document.text.is_char_boundary(end) {
            end -= 1;
        }
        let ids = tokenizer.encode(&document.text[..end])?;
        for window in ids.chunks_exact(length).take(each).take(count - found) {
            rows.push(opened.bos);
            rows.extend_from_slice(window);
            found += 1;
        }
        if ids.len() < length && short.len() < (count + 1) * length {
            short.extend(ids);
            short.push(opened.bos);
        }
        if found == count {
            break;
        }
    }
    // Of documents that have more, more.
    for document in &documents {
        if found == count {
            break;
        }
        let mut end = document.text.len().min(16 * length * count);
        while !document.text.is_char_boundary(end) {
            end -= 1;
        }
        if end < each * length {
            continue;
        }
        let ids = tokenizer.encode(&document.text[..end])?;
        for window in ids.chunks_exact(length).skip(each).take(count - found) {
            rows.push(opened.bos);
            rows.extend_from_slice(window);
            found += 1;
        }
    }
    let mut packed = 0;
    for window in short.chunks_exact(length).take(count - found) {
        rows.push(opened.bos);
        rows.extend_from_slice(window);
        packed += 1;
    }
    if packed > 0 {
        notes.push(format!(
            "{name}: {packed} of {} windows of {length} tokens are of several short documents, put together with the start token between them; attention goes across, and late tokens have less to learn from than their place says",
            found + packed
        ));
    }
    found += packed;
    if found == 0 {
        return Err(Error::Input(format!(
            "--text {name}: its {} documents have {} tokens together, and a window has {length}: use a longer text",
            documents.len(),
            short.iter().filter(|&&id| id != opened.bos).count()
        )));
    }
    let rows = Array2::from_shape_vec((found, length + 1), rows).expect("windows have one length");
    Ok(Windows { name, rows, notes })
}

fn in_context(
    text: &str,
    windows: &Array2<u32>,
    engine: &dyn Engine,
) -> Result<(IclOnText, IclIndices), Error> {
    let place = |source| Error::Metric { place: text.to_string(), source };
    let length = windows.ncols() - 1;
    let indices = IclIndices::for_context(length).map_err(place)?;
    let losses = engine.losses(windows.view(), &[])?;
    let score = icl_score(losses.view(), &indices).map_err(place)?;
    let by_index = loss_by_index(losses.view()).map_err(place)?.to_vec();
    let icl = IclOnText {
        text: text.to_string(),
        examples: windows.nrows(),
        length,
        early: indices.early,
        late: indices.late,
        half_width: indices.half_width,
        score: score.score,
        stderr: score.stderr,
        by_example: icl_by_example(losses.view(), &indices).map_err(place)?,
        loss: by_index.iter().sum::<f64>() / length as f64,
        by_index,
    };
    Ok((icl, indices))
}

/// Removes all heads that match prefixes (above the limit that roles have), then as many random
/// others.
fn without(
    engine: &dyn Engine,
    heads: &[HeadRow],
    repeats: &Array2<u32>,
    clean: &Array2<f32>,
    text: Option<(&Array2<u32>, IclIndices)>,
    streamed: bool,
) -> Result<Option<Removals>, Error> {
    let limit = RoleThresholds::default().prefix_matching;
    let matches = |row: &&HeadRow| row.score("prefix_matching") > limit;
    let mut studied: Vec<HeadId> = heads.iter().filter(matches).map(HeadRow::id).collect();
    let pool: Vec<HeadId> = heads.iter().filter(|row| !matches(row)).map(HeadRow::id).collect();
    studied.sort();
    if studied.is_empty() {
        return Ok(None);
    }
    let mut sets = vec![(RemovedKind::Induction, studied.clone())];
    let controls = control_sets(&studied, &pool, CONTROLS, EVALUATION_SEED);
    sets.extend(
        controls.into_iter().filter(|set| set.matched).map(|set| (RemovedKind::Matched, set.heads)),
    );
    for draw in 0..CONTROLS as u64 {
        let mut any = pool.clone();
        any.shuffle(&mut induction_random::stream(
            EVALUATION_SEED,
            "control heads of any layer",
            draw,
        ));
        any.truncate(studied.len());
        any.sort();
        if any.len() == studied.len() {
            sets.push((RemovedKind::Any, any));
        }
    }
    let interventions: Vec<Vec<Intervention>> = sets
        .iter()
        .map(|(_, heads)| {
            heads
                .iter()
                .map(|&HeadId { layer, head }| Intervention::ZeroHead { layer, head })
                .collect()
        })
        .collect();
    let [_, whole] = copies(clean);
    // A streamed model reads all layers for a call, and so takes all sets in one. Of one in memory,
    // what passes from different layers share would be kept of every layer, and take more memory
    // than time.
    let at_once = if streamed { interventions.len() } else { 1 };
    let losses_of = |examples: &Array2<u32>, sets: &[&[Intervention]]| -> Result<Vec<_>, Error> {
        let mut losses = Vec::new();
        for sets in sets.chunks(at_once) {
            losses.extend(engine.losses_under(examples.view(), sets)?);
        }
        Ok(losses)
    };
    let all: Vec<&[Intervention]> = interventions.iter().map(Vec::as_slice).collect();
    let on_repeats = losses_of(repeats, &all)?;
    // On a text, the first set of each kind.
    let first = |k: &usize| sets[..*k].iter().all(|(kind, _)| *kind != sets[*k].0);
    let firsts: Vec<usize> = (0..sets.len()).filter(first).collect();
    let mut on_text = BTreeMap::new();
    if let Some((windows, indices)) = &text {
        let all: Vec<&[Intervention]> = firsts.iter().map(|&k| all[k]).collect();
        for (&k, losses) in firsts.iter().zip(losses_of(windows, &all)?) {
            let place = |source| Error::Metric { place: "text without heads".into(), source };
            on_text.insert(k, icl_score(losses.view(), indices).map_err(place)?.score);
        }
    }
    let mut removed = Vec::new();
    for (k, ((kind, heads), losses)) in sets.iter().zip(&on_repeats).enumerate() {
        let [first, second] = copies(losses);
        let place = |source| Error::Metric { place: format!("without heads ({kind:?})"), source };
        let (second_change, second_change_stderr) =
            paired_change(&whole, &second).map_err(place)?;
        removed.push(RemovedHeads {
            kind: *kind,
            heads: heads.iter().map(|head| [head.layer, head.head]).collect(),
            first: mean_stderr(&first).0,
            second: mean_stderr(&second).0,
            second_change,
            second_change_stderr,
            icl: on_text.get(&k).copied(),
        });
    }
    Ok(Some(Removals { sets: removed }))
}
