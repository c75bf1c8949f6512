//! Makes a failing plan as short as it can be: steps are left out as long as it still fails.

use crate::plan::Plan;

/// The shortest plan found that `fails`. Chunks of steps are tried first, then single ones.
pub(crate) fn shrink(plan: &Plan, fails: impl Fn(&Plan) -> bool) -> Plan {
    let mut plan = plan.clone();
    let mut chunk = plan.steps.len().div_ceil(2).max(1);
    loop {
        let mut has_shrunk = false;
        let mut at = 0;
        while at < plan.steps.len() {
            let mut shorter = plan.clone();
            shorter.steps.drain(at..(at + chunk).min(plan.steps.len()));
            if fails(&shorter) {
                plan = shorter;
                has_shrunk = true;
            } else {
                at += chunk;
            }
        }
        match chunk {
            1 if !has_shrunk => return plan,
            1 => {}
            _ => chunk = chunk.div_ceil(2),
        }
    }
}

#[test]
fn only_the_steps_that_matter_are_left() {
    use crate::plan::Step;
    let mut plan = Plan::draw(7);
    plan.steps.insert(3, Step::FlushAll);
    plan.steps.push(Step::Restore);
    let holds = |plan: &Plan, step| plan.steps.contains(&step);
    let shrunk = shrink(&plan, |plan| holds(plan, Step::FlushAll) && holds(plan, Step::Restore));
    assert_eq!(shrunk.steps, [Step::FlushAll, Step::Restore]);
}
