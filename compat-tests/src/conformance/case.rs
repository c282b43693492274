//! A case: one rule of bpf(4), and how it is seen.

use super::scene::{Done, Scene};
use super::stage::Needs;

/// One rule and its check.
pub struct Case {
    /// `area::what`, unique.
    pub id: String,
    /// What is so, in a few words.
    pub title: String,
    /// Where it is written: a section of a system's bpf(4), or the source file and function.
    pub rule: String,
    /// What the stage must have.
    pub needs: Needs,
    play: Box<dyn Fn(&mut Scene) -> Done + Send + Sync>,
}

impl Case {
    /// A case.
    pub fn new(
        id: impl Into<String>,
        title: impl Into<String>,
        rule: impl Into<String>,
        play: impl Fn(&mut Scene) -> Done + Send + Sync + 'static,
    ) -> Case {
        Case {
            id: id.into(),
            title: title.into(),
            rule: rule.into(),
            needs: Needs::default(),
            play: Box::new(play),
        }
    }

    /// It wants an interface that takes no frames for other stations.
    pub fn with_address_filter(self) -> Case {
        Case { needs: Needs { address_filter: true }, ..self }
    }

    /// Plays it.
    ///
    /// # Errors
    /// The first difference, or why it cannot be played.
    pub fn play(&self, scene: &mut Scene) -> Done {
        (self.play)(scene)
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whether `text` is what `pattern` says, in which `*` stands for any characters, none too.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    // the rest of the pattern may begin anywhere
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, same) in [
            ("read::empty", "read::empty", true),
            ("read::empty", "read::emptyy", false),
            ("read::*", "read::empty", true),
            ("*::empty", "read::empty", true),
            ("r*d::*", "read::", true),
            ("*", "", true),
            ("w*", "read", false),
            ("*a*b*", "xaybz", true),
            ("*a*b", "ab-ab-a", false),
        ] {
            assert_eq!(matches(pattern, text), same, "{pattern} {text}");
        }
    }
}
