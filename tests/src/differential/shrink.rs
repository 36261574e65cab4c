//! Makes a failing sequence small: as long as it fails at all, in whatever way, steps are left out.
//! The result is locally minimal: it fails, and without any one of its steps it does not.

use super::sequence::Step;

/// The steps that remain. `fails` is asked at most so many times.
pub(super) fn shrink(mut steps: Vec<Step>, mut tries: usize, mut fails: impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let mut chunk = steps.len().div_ceil(2);
    while chunk > 0 && tries > 0 {
        let mut at = 0;
        let before = steps.len();
        while at < steps.len() && tries > 0 {
            let rest = [&steps[..at], &steps[(at + chunk).min(steps.len())..]].concat();
            tries -= 1;
            if fails(&rest) {
                steps = rest;
            } else {
                at += chunk;
            }
        }
        // Single steps are tried until a whole round leaves nothing out.
        if chunk > 1 || steps.len() == before {
            chunk /= 2;
        }
    }
    let plain: Vec<Step> = steps.iter().map(|step| Step { connection: 0, alone: true, action: step.action.clone() }).collect();
    if tries > 0 && fails(&plain) { plain } else { steps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::sequence::generate;

    #[test]
    fn what_is_not_needed_is_left_out() {
        let steps = generate(5);
        let needed = [&steps[10], &steps[11], &steps[250]];
        let small = shrink(steps.clone(), 10_000, |rest| needed.iter().all(|step| rest.iter().any(|one| one.action == step.action)));
        assert_eq!(small.len(), 3);
        assert!(small.iter().all(|step| step.alone && step.connection == 0));
    }

    #[test]
    fn a_sequence_that_does_not_fail_again_stays() {
        let steps = generate(6);
        assert_eq!(shrink(steps.clone(), 10_000, |_| false), steps);
    }
}
