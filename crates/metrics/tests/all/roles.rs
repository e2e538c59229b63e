//! Roles by thresholds.

use induction_metrics::{CopyingCeiling, Error, Role, RoleScores, RoleThresholds, role};
use proptest::prelude::*;

fn by_default(prefix_matching: f64, copying: f64, previous_token: f64) -> Role {
    role(&RoleScores { prefix_matching, copying, previous_token }, &RoleThresholds::default())
}

#[test]
fn typical_heads() {
    // The paper's three heads (paper.md, 6: argument 4).
    for (copying, prefix_matching) in [(0.89, 0.75), (0.20, 0.85), (0.69, 0.94)] {
        assert_eq!(by_default(prefix_matching, copying, 0.0), Role::Induction);
    }
    assert_eq!(by_default(0.6, -0.9, 0.1), Role::AntiCopyingPrefix);
    assert_eq!(by_default(0.0, -0.8, 0.9), Role::PreviousToken);
    assert_eq!(by_default(0.0, 0.5, 0.9), Role::PreviousToken);
    assert_eq!(by_default(0.1, 0.5, 0.1), Role::Copying);
    // Uniform attention and equal raises.
    assert_eq!(by_default(0.03, -0.85, 0.04), Role::Other);
}

#[test]
fn induction_comes_before_previous_token() {
    assert_eq!(by_default(0.4, 0.1, 0.5), Role::Induction);
    assert_eq!(by_default(0.4, -0.1, 0.5), Role::AntiCopyingPrefix);
}

#[test]
fn thresholds_are_passed_strictly() {
    assert_eq!(by_default(0.3, 0.5, 0.0), Role::Copying);
    assert_eq!(by_default(0.9, 0.0, 0.0), Role::PrefixMatching);
    assert_eq!(by_default(0.0, 0.0, 0.3), Role::Other);
    assert_eq!(by_default(f64::NAN, f64::NAN, f64::NAN), Role::Other);
}

#[test]
fn limits_by_the_ceiling_of_a_rank() {
    let limits = RoleThresholds::for_ceiling(&CopyingCeiling { ceiling: -0.05, chance: -0.85 });
    limits.validate().expect("scores");
    let of = |copying: f64| {
        role(&RoleScores { prefix_matching: 0.7, copying, previous_token: 0.0 }, &limits)
    };
    assert_eq!(
        [of(-0.1), of(-0.6), of(-0.9)],
        [Role::Induction, Role::PrefixMatching, Role::AntiCopyingPrefix]
    );
    // A ceiling that is not above chance leaves no room in between.
    let none = RoleThresholds::for_ceiling(&CopyingCeiling { ceiling: -0.9, chance: -0.85 });
    assert_eq!((none.copying, none.anti_copying), (-0.85, -0.85));
}

#[test]
fn tables_are_checked() {
    RoleThresholds::default().validate().expect("the defaults are valid");
    let base = RoleThresholds::default();
    for (bad, field) in [
        (RoleThresholds { prefix_matching: 1.1, ..base }, "prefix_matching"),
        (RoleThresholds { prefix_matching: f64::NAN, ..base }, "prefix_matching"),
        (RoleThresholds { copying: -1.1, ..base }, "copying"),
        (RoleThresholds { previous_token: -0.1, ..base }, "previous_token"),
    ] {
        assert!(
            matches!(bad.validate(), Err(Error::Setting { name, .. }) if name == field),
            "{bad:?}"
        );
    }
    RoleThresholds { copying: -0.5, ..base }.validate().expect("copying scores can be negative");
}

#[test]
fn tables_and_roles_have_names() {
    let found: RoleThresholds =
        serde_json::from_str(r#"{"copying": -0.1}"#).expect("the rest has defaults");
    assert_eq!(found, RoleThresholds { copying: -0.1, ..RoleThresholds::default() });
    assert!(serde_json::from_str::<RoleThresholds>(r#"{"coping": 0.1}"#).is_err());
    let roles = [
        Role::Induction,
        Role::AntiCopyingPrefix,
        Role::PrefixMatching,
        Role::PreviousToken,
        Role::Copying,
        Role::Other,
    ];
    let names = [
        "induction",
        "anti-copying-prefix",
        "prefix-matching",
        "previous-token",
        "copying",
        "other",
    ];
    assert_eq!(
        serde_json::to_value(roles).expect("names"),
        serde_json::to_value(names).expect("names")
    );
}

proptest! {
    /// Raising one score never takes a head out of the role which that score speaks for.
    #[test]
    fn roles_are_monotone(pm in 0.0..1.0, copying in -1.0..1.0, previous in 0.0..1.0, more in 0.0..1.0) {
        let before = by_default(pm, copying, previous);
        if before == Role::Induction {
            prop_assert_eq!(by_default(pm + more, copying, previous), Role::Induction);
            prop_assert_eq!(by_default(pm, copying + more, previous), Role::Induction);
        }
        if before == Role::PreviousToken {
            prop_assert_eq!(by_default(pm, copying, previous + more), Role::PreviousToken);
        }
        if before == Role::AntiCopyingPrefix {
            prop_assert_eq!(by_default(pm, copying - more, previous), Role::AntiCopyingPrefix);
        }
    }
}
