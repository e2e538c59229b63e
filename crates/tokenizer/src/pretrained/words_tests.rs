use super::*;
use proptest::prelude::*;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

fn by_library(step: &impl PreTokenizer, text: &str) -> Vec<String> {
    let mut text = PreTokenizedString::from(text);
    step.pre_tokenize(&mut text).unwrap();
    let words = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    words.into_iter().map(|(word, ..)| word.to_owned()).filter(|word| !word.is_empty()).collect()
}

/// Every spelling, as the library runs it.
static LIBRARY: LazyLock<Vec<(Pattern, Split)>> = LazyLock::new(|| {
    let spellings = Pattern::ALL
        .into_iter()
        .flat_map(|pattern| pattern.spellings().iter().map(move |s| (pattern, s)));
    let compiled = spellings.map(|(pattern, spelling)| {
        let written = SplitPattern::Regex(format!("{spelling}{TAIL}"));
        (pattern, Split::new(written, SplitDelimiterBehavior::Isolated, false).unwrap())
    });
    compiled.collect()
});

fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ \t\r\n\u{85}\u{a0}\u{2028}\u{3000}]{0,6}",
        "[a-zA-Z'\u{17f}]{0,8}",
        "[0-9\u{660}\u{bd}\u{2160}]{0,5}",
        "[!-/]{0,4}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn words_are_those_of_the_pattern_with_look_ahead(text in any_text()) {
        for (pattern, library) in &*LIBRARY {
            prop_assert_eq!(pattern.split(&text), by_library(library, &text), "{:?}", pattern);
        }
        for individual in [false, true] {
            prop_assert_eq!(Step::Digits { individual }.split(&text), by_library(&Digits::new(individual), &text));
        }
    }
}

#[test]
fn a_pattern_is_known_by_its_spellings_alone() {
    for pattern in Pattern::ALL {
        for spelling in pattern.spellings() {
            assert_eq!(Pattern::known(&format!("{spelling}{TAIL}")), Some(pattern));
            assert_eq!(Pattern::known(spelling), None);
        }
    }
    assert_eq!(Pattern::known(r"\w+|\s+(?!\S)|\s+"), None);
}

#[test]
fn every_name_listed_is_known_and_no_other() {
    for name in NAMES {
        assert!(named(name).is_ok(), "{name}");
    }
    let error = named("default").unwrap_err();
    assert!(
        error.contains("\"default\" is not known") && error.contains("smollm, starcoder"),
        "{error}"
    );
}

#[test]
fn millions_of_spaces_are_one_word() {
    let text = " ".repeat(3_000_000) + "x";
    for pattern in Pattern::ALL {
        assert_eq!(pattern.split(&text), [&text[1..text.len() - 1], " x"]);
    }
}
