//! NaN and infinities: the run stops on that step, names the parameter, and its last snapshot stays
//! good.

use std::collections::BTreeMap;

use induction_engine::{Batch, CpuEngine, Engine, Exactness, Intervention};
use induction_model::{Hook, ModelConfig, Params};
use induction_torture::cases;
use induction_train::{Error, Snapshot, list_snapshots};
use ndarray::{Array2, Array3, ArrayD, ArrayView2};

use crate::{Listener, STEPS, assert_whole, example, newest, spec, train, undisturbed};

/// An engine that goes wrong in one number on one step.
struct Poisoned {
    inner: CpuEngine,
    step: u64,
    at: u64,
    /// A parameter's gradient, or the loss.
    what: Option<String>,
    value: f32,
}

impl Engine for Poisoned {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn exactness(&self) -> Exactness {
        self.inner.exactness()
    }
    fn config(&self) -> &ModelConfig {
        self.inner.config()
    }
    fn set_params(&mut self, params: &Params) -> Result<(), induction_engine::Error> {
        self.inner.set_params(params)
    }
    fn loss_and_gradients(
        &mut self,
        batch: Batch<'_>,
        gradients: &mut Params,
    ) -> Result<f32, induction_engine::Error> {
        let loss = self.inner.loss_and_gradients(batch, gradients)?;
        self.step += 1;
        match &self.what {
            _ if self.step != self.at => Ok(loss),
            None => Ok(self.value),
            Some(name) => {
                let (_, gradient) = gradients.iter_mut().find(|(found, _)| found == name).unwrap();
                *gradient.iter_mut().last().unwrap() = self.value;
                Ok(loss)
            }
        }
    }
    fn losses_under(
        &self,
        examples: ArrayView2<u32>,
        sets: &[&[Intervention]],
    ) -> Result<Vec<Array2<f32>>, induction_engine::Error> {
        self.inner.losses_under(examples, sets)
    }
    fn activations(
        &self,
        tokens: ArrayView2<u32>,
        hooks: &[Hook],
        interventions: &[Intervention],
    ) -> Result<BTreeMap<Hook, ArrayD<f32>>, induction_engine::Error> {
        self.inner.activations(tokens, hooks, interventions)
    }
    fn logits(
        &self,
        tokens: ArrayView2<u32>,
        interventions: &[Intervention],
    ) -> Result<Array3<f32>, induction_engine::Error> {
        self.inner.logits(tokens, interventions)
    }
}

#[test]
fn a_number_that_is_none_stops_the_run_and_is_named() {
    let whole = undisturbed();
    let spec = spec();
    let mut kinds: Vec<Option<String>> =
        spec.model.parameter_shapes().into_iter().map(|(name, _)| Some(name)).collect();
    kinds.push(None);
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    cases(
        "NaN and infinities in gradients and losses",
        (kinds.len() * values.len()) as u64,
        |seed| {
            let what = kinds[seed as usize % kinds.len()].clone();
            let value = values[seed as usize / kinds.len() % values.len()];
            let at = 2 + seed % (STEPS - 2);
            let folder = induction_torture::scratch();
            let run = folder.path().join("run");
            let inner =
                CpuEngine::new(&spec.model, &spec.model.init_params(spec.seed).unwrap()).unwrap();
            let mut engine = Poisoned { inner, step: 0, at, what: what.clone(), value };
            let result = induction_train::train(
                &spec,
                &example,
                &mut engine,
                1,
                &run,
                &mut Listener::default(),
            );
            let named = what.as_deref().unwrap_or("the loss");
            let Err(Error::Diverged { step, what, last_good, report }) = result else {
                panic!("{named}: {result:?}")
            };
            assert_eq!((step, what.contains(named)), (at, true), "{what}");
            assert_eq!(newest(&run), Some(last_good));
            let report: serde_json::Value =
                serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
            assert_eq!(report["step"], at);
            assert!(report["not_finite"].as_str().unwrap().contains(named), "{report}");
            // On an engine that is well again it goes on as if nothing had been.
            train(&run, &mut Listener::default()).unwrap();
            assert_whole(&run, &whole.path().join("run"));
        },
    );
}

#[test]
fn moments_that_are_none_stop_the_run() {
    let spec = spec();
    let shapes = spec.model.parameter_shapes();
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    cases("NaN and infinities in optimizer states", (shapes.len() * values.len()) as u64, |seed| {
        let (name, _) = &shapes[seed as usize % shapes.len()];
        let value = values[seed as usize / shapes.len() % values.len()];
        let folder = induction_torture::scratch();
        let run = folder.path().join("run");
        train(&run, &mut Listener { stop_at: 20, ..Listener::default() }).unwrap();
        // As a snapshot that verifies and holds it: what a wrong computation would have left.
        let (config, mut snapshot) = Snapshot::load(&run, 20).unwrap();
        let moment = snapshot.optimizer.m.iter_mut().find(|(found, _)| found == name).unwrap().1;
        *moment.iter_mut().next().unwrap() = value;
        std::fs::remove_dir_all(induction_train::snapshot_folder(&run, 20)).unwrap();
        snapshot.save(&run, &config).unwrap();
        let result = train(&run, &mut Listener::default());
        let Err(Error::Diverged { step, what, .. }) = result else { panic!("{name}: {result:?}") };
        assert_eq!((step, what.contains(name.as_str())), (21, true), "{what}");
        assert!(list_snapshots(&run).unwrap().iter().all(|&step| step <= 20));
    });
}
