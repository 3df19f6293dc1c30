//! Names with acronyms and in other cases: spelled as Rust spells them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Moves, each_operation};
use crate::{
    document::{join, schema_name, walk},
    error::{Result, refuse},
    names::type_name,
};

/// Respells operation ids and schema names (see [`type_name`]) and every reference to them.
pub(super) fn respell(
    document: &mut Value,
    renamed: &mut BTreeMap<String, String>,
    moves: &mut Moves,
) -> Result<usize> {
    moves.begin();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    if let Some(schemas) = schemas {
        for (name, schema) in std::mem::take(schemas) {
            let pointer = join("/components/schemas", &name);
            let new = type_name(&name).filter(|_| !name.contains(['/', '~', '%', ' ']));
            let Some(new) = new else { refuse!(pointer, "`{name}` makes no type name") };
            // typify writes these two unqualified.
            if new == "Default" || new == "String" {
                refuse!(pointer, "`{name}` has a meaning in Rust already");
            }
            if schemas.contains_key(&new) {
                refuse!(pointer, "two schemas would be called `{new}`");
            }
            schemas.insert(new.clone(), schema);
            if new != name {
                moves.add(join("/components/schemas", &new), pointer);
                renamed.insert(new.clone(), name.clone());
                names.insert(name, new);
            }
        }
    }
    each_operation(document, |_, _, operation| {
        if let Some(Value::String(id)) = operation.get_mut("operationId")
            && let Some(new) = type_name(id)
            && new != *id
        {
            renamed.insert(new.clone(), std::mem::replace(id, new));
        }
        Ok(())
    })?;
    walk(document, "", &mut |_, map| {
        if let Some(Value::String(reference)) = map.get_mut("$ref")
            && let Some(new) = schema_name(reference).and_then(|name| names.get(name))
        {
            *reference = format!("#/components/schemas/{new}");
        }
        Ok(())
    })?;
    Ok(renamed.len())
}
