//! What of a conversation that is too long may be left out? Its oldest turns: a question with all that follows it. The system message and the
//! last question stay.

use serde_json::Value;

/// Where turns begin: at each message of the user that does not follow another one.
fn starts(messages: &[Value]) -> Vec<usize> {
    let is_user = |at: usize| messages[at]["role"] == "user";
    (0..messages.len()).filter(|&at| is_user(at) && (at == 0 || !is_user(at - 1))).collect()
}

/// How many turns there are, the last question's included.
pub(super) fn n_turn(messages: &[Value]) -> usize {
    starts(messages).len()
}

/// The conversation without its oldest turns.
pub(super) fn without(messages: &[Value], n_dropped: usize) -> Vec<Value> {
    let starts = starts(messages);
    match (starts.first(), starts.get(n_dropped)) {
        (Some(&first), Some(&from)) => [&messages[..first], &messages[from..]].concat(),
        _ => messages.to_vec(),
    }
}

/// The fewest oldest turns without which a conversation has at most so many tokens; none if its last question alone has more.
pub(super) fn fewest<E>(
    messages: &[Value],
    most: usize,
    mut count: impl FnMut(Vec<Value>) -> Result<usize, E>,
) -> Result<Option<usize>, E> {
    for n_dropped in 0..n_turn(messages) {
        if count(without(messages, n_dropped))? <= most {
            return Ok(Some(n_dropped));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use worker::chat::message;

    use super::*;

    #[test]
    fn the_oldest_turns_go_and_the_system_message_stays() {
        let talk = ["system", "user", "assistant", "user", "assistant", "user"];
        let talk: Vec<Value> =
            talk.iter().zip(["s", "a", "A", "b", "B", "c"]).map(|(role, text)| message(role, text)).collect();
        let texts =
            |messages: &[Value]| messages.iter().map(|m| m["content"].as_str().unwrap()).collect::<String>();
        assert_eq!(n_turn(&talk), 3);
        assert_eq!([0, 1, 2, 3].map(|n| texts(&without(&talk, n))), ["saAbBc", "sbBc", "sc", "saAbBc"]);
        let fewest = |most| fewest(&talk, most, |messages| Ok::<_, ()>(messages.len())).unwrap();
        assert_eq!([6, 5, 4, 3, 2, 1].map(fewest), [Some(0), Some(1), Some(1), Some(2), Some(2), None]);
    }
}
