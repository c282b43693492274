//! Markup is written as literals, and everything else as text.

/// HTML under construction. Only literals get into it as they are.
pub(super) struct Html(pub(super) String);

impl Html {
    /// Markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Text, in an element or in a quoted attribute. What cannot be seen, or turns the direction of other text, is
    /// written as an escape sequence.
    pub(super) fn text(&mut self, text: &str) -> &mut Html {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(character),
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                    self.0.extend(character.escape_unicode());
                }
                _ if character.is_control() => self.0.extend(character.escape_unicode()),
                _ => self.0.push(character),
            }
        }
        self
    }

    pub(super) fn number(&mut self, number: usize) -> &mut Html {
        self.0.push_str(&number.to_string());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut html = Html(String::new());
        html.text("<a href='x'>&\"\u{0}\u{202e}\n\u{7f}é");
        assert_eq!(html.0, "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\\u{0}\\u{202e}\n\\u{7f}é");
    }
}
