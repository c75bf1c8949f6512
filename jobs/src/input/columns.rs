//! Mapping and arrival together: the name of every field's column, and the words that messages use for it.

use super::error::InputError;
use super::mapping::{Field, is_like, nearest_first};
use super::{InputOptions, report};

/// Names of columns listed in one message.
const LISTED_MAX: usize = 20;

/// The column of every field.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    file: String,
    columns: [Option<Column>; 5],
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    /// Named by the user; a file that lacks it is not what the user thinks it is.
    on_purpose: bool,
    /// `ad_id`, or `campaign` (ad_id).
    label: String,
}

impl Columns {
    pub(super) fn new(options: &InputOptions) -> Self {
        let columns = Field::ALL.map(|field| {
            let named = match field {
                Field::Arrival => Some(options.arrival.as_deref()?),
                _ => options.map.column(field),
            };
            let name = named.unwrap_or(field.name()).to_owned();
            let label = if name == field.name() {
                format!("`{name}`")
            } else {
                format!("`{}` ({})", report::clean(&name), field.name())
            };
            Some(Column { name, on_purpose: named.is_some(), label })
        });
        Columns { file: options.file.to_string(), columns }
    }

    /// The file that is read, for messages.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// `None` only for an arrival that nobody asked for.
    pub(super) fn name(&self, field: Field) -> Option<&str> {
        Some(&self.columns[field as usize].as_ref()?.name)
    }

    pub(super) fn label(&self, field: Field) -> &str {
        self.columns[field as usize].as_ref().map_or(field.name(), |column| &column.label)
    }

    /// The fields whose value is in the column of this name; more than one if the user mapped it so.
    pub(super) fn fields_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Field> + 'a {
        Field::ALL.into_iter().filter(move |field| self.name(*field) == Some(name))
    }

    pub(super) fn is_asked(&self, field: Field) -> bool {
        self.name(field).is_some()
    }

    /// Without it no line can be a click.
    pub(super) fn is_required(&self, field: Field) -> bool {
        matches!(field, Field::AdId | Field::Timestamp) || (field == Field::Arrival && self.is_asked(field))
    }

    /// A file without it is refused: it is required, or the user named it.
    pub(super) fn must_exist(&self, field: Field) -> bool {
        self.is_required(field) || self.columns[field as usize].as_ref().is_some_and(|column| column.on_purpose)
    }

    /// The refusal, with what is there instead. `line` is where the columns were read.
    pub(super) fn unknown(&self, field: Field, line: u64, present: &[String]) -> InputError {
        let wanted = self.name(field).unwrap_or(field.name());
        let sorted = nearest_first(wanted, present.iter().map(|name| report::clean(name)));
        let mut listed = sorted.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if sorted.len() > LISTED_MAX {
            listed.push_str(&format!(" and {} more", sorted.len() - LISTED_MAX));
        }
        if listed.is_empty() {
            listed.push_str("none at all");
        }
        let nearest = sorted.first().map_or("COLUMN", String::as_str);
        let own = field.name();
        let mend = match field {
            Field::Arrival => format!("Name the right one, for instance `--arrival {nearest}`"),
            // The column of its own name is what is meant, unless another one was asked for that is nearly there.
            _ if wanted != own && sorted.iter().any(|name| name == own) && !is_like(wanted, nearest) => {
                format!("Leave the mapping of {own} out: `{own}` is there")
            }
            _ if is_like(wanted, nearest) || is_like(own, nearest) => {
                format!("Map the right one, for instance `--map {own}={nearest}`")
            }
            Field::ClickId => "Leave its mapping out: a click without an id gets one".to_owned(),
            Field::UserId => "Leave its mapping out: a click may name no user".to_owned(),
            _ => format!("Map the right one of these: `--map {own}=COLUMN`"),
        };
        let missing = format!("no column {}", self.label(field));
        InputError::UnknownColumn { missing, file: self.file.clone(), line, present: listed, mend }
    }
}
