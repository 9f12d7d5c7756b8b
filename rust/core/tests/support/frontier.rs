//! The frontier against a list that is looked through from the start every time (ENGINE 3.1).

use proptest::collection::vec;
use proptest::prelude::{Just, any};
use proptest::prop_oneof;
use rainband_core::frontier::{Frontier, Ticket};

use super::check::{Effort, ensure, for_all};
use super::payload::{Census, Token};

/// Positions enter, resolve in any order, some twice; the position is the last of the resolved ones at the front. However long
/// one is not resolved, those behind it wait in little room.
pub fn follows_the_model(effort: Effort) -> Result<(), String> {
    let slacks = prop_oneof![Just(0_usize), Just(3), Just(1024)];
    for_all(effort, 300, &(slacks, vec((0_u8..5, any::<u16>()), 0..120)), |(slack, steps)| run(slack, &steps))
}

fn run(slack: usize, steps: &[(u8, u16)]) -> Result<(), String> {
    let census = Census::begin();
    let mut frontier = Frontier::with_slack(slack);
    // Position, ticket, resolved; passed ones stay, so that late resolutions can be tried.
    let mut model: Vec<(u64, Ticket, bool)> = Vec::new();
    let mut passed = 0;
    for (step, pick) in steps {
        match step {
            0 => {
                let position = model.len() as u64 * 10;
                let ticket = frontier.enter(Token::new(position));
                model.push((position, ticket, false));
            }
            1 if !model.is_empty() => {
                let at = usize::from(*pick) % model.len();
                frontier.resolve(model[at].1);
                model[at].2 = true;
            }
            2 => frontier.resolve(Ticket::NONE),
            3 => {
                let position = model.len() as u64 * 10;
                let ticket = frontier.enter(Token::new(position));
                let back = frontier.take_back(ticket).map(Token::retire);
                ensure(back == Some(position), || format!("took {back:?} back, not {position}"))?;
            }
            _ => {
                let reached = frontier.advance(|before| _ = before.retire()).map(Token::retire);
                let resolved = model[passed..].iter().take_while(|entry| entry.2).count();
                let expected = resolved.checked_sub(1).map(|last| model[passed + last].0);
                ensure(reached == expected, || format!("position {reached:?}, expected {expected:?}"))?;
                passed += resolved;
                let unresolved = model[passed..].iter().filter(|entry| !entry.2).count();
                ensure(frontier.len() <= 2 * unresolved + slack, || {
                    format!("{} wait for {unresolved}", frontier.len())
                })?;
            }
        }
        let most = model.len() - passed;
        let fits = if slack < model.len() { frontier.len() <= most } else { frontier.len() == most };
        ensure(fits, || "the number of waiting positions is wrong".into())?;
    }
    let left: Vec<u64> = frontier.drain().map(Token::retire).collect();
    ensure(left.len() <= model.len() - passed, || "drain left something behind".into())?;
    ensure(frontier.is_empty(), || "something waits after drain".into())?;
    let ticket = frontier.enter(Token::new(7));
    frontier.resolve(ticket);
    let reached = frontier.advance(|before| _ = before.retire()).map(Token::retire);
    ensure(reached == Some(7), || "a frontier that was drained does not go on".into())?;
    census.end()
}
