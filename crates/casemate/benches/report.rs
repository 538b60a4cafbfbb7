//! How a benchmark says what it found: one line a target.
#![allow(dead_code, reason = "each benchmark uses its part")]

/// Prints `target NAME: FIGURE UNIT, bound BOUND UNIT, met` or `missed`: at most `bound` meets it.
pub fn at_most(name: &str, figure: f64, bound: f64, unit: &str) {
    let verdict = if figure <= bound { "met" } else { "missed" };
    println!("target {name}: {figure:.2}{unit}, bound {bound:.2}{unit}, {verdict}");
}

/// Prints `target NAME: FIGURE UNIT, bound BOUND UNIT, met` or `missed`: at least `bound` meets it.
pub fn at_least(name: &str, figure: f64, bound: f64, unit: &str) {
    let verdict = if figure >= bound { "met" } else { "missed" };
    println!("target {name}: {figure:.2}{unit}, bound {bound:.2}{unit}, {verdict}");
}

/// The value below which `share` (0..=1) of the sorted `values` lie.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (share * last as f64).ceil() as usize;
    values[index.min(last)]
}
