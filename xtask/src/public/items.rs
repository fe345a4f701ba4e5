//! The public items of one file.

use std::collections::BTreeSet;

use syn::{Attribute, Fields, ImplItem, Item, TraitItem, UseTree, Visibility};

/// The names of the modules that `file` declares as public.
pub(super) fn public_modules(file: &syn::File) -> BTreeSet<String> {
    let modules = file.items.iter().filter_map(|item| match item {
        Item::Mod(module) if is_public(&module.vis) => Some(module.ident.to_string()),
        _ => None,
    });
    modules.collect()
}

/// Kind and name of each: of types also their fields, variants and methods, of traits what they ask for.
pub(super) fn public_items(file: &syn::File) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for item in &file.items {
        match item {
            Item::Struct(item) if is_public(&item.vis) => {
                found.push((
                    of_growing(&item.attrs, "struct", "struct (non_exhaustive)"),
                    item.ident.to_string(),
                ));
                found.extend(fields(&item.ident.to_string(), &item.fields));
            }
            Item::Enum(item) if is_public(&item.vis) => {
                found
                    .push((of_growing(&item.attrs, "enum", "enum (non_exhaustive)"), item.ident.to_string()));
                let variants = item.variants.iter();
                found.extend(
                    variants.map(|variant| ("variant", format!("{}::{}", item.ident, variant.ident))),
                );
            }
            Item::Trait(item) if is_public(&item.vis) => {
                found.push(("trait", item.ident.to_string()));
                let asked = item.items.iter().filter_map(|asked| match asked {
                    TraitItem::Fn(method) => Some(("method", &method.sig.ident)),
                    TraitItem::Const(value) => Some(("const", &value.ident)),
                    TraitItem::Type(kind) => Some(("type", &kind.ident)),
                    _ => None,
                });
                found.extend(asked.map(|(kind, name)| (kind, format!("{}::{name}", item.ident))));
            }
            Item::Fn(item) if is_public(&item.vis) => found.push(("fn", item.sig.ident.to_string())),
            Item::Const(item) if is_public(&item.vis) => found.push(("const", item.ident.to_string())),
            Item::Static(item) if is_public(&item.vis) => found.push(("static", item.ident.to_string())),
            Item::Type(item) if is_public(&item.vis) => found.push(("type", item.ident.to_string())),
            Item::Impl(item) if item.trait_.is_none() => found.extend(methods(item)),
            Item::Use(item) if is_public(&item.vis) => found.extend(of_other_crates(&item.tree)),
            _ => {}
        }
    }
    found
}

/// What is handed on of our other crates; what is of this one stands where it is declared.
fn of_other_crates(tree: &UseTree) -> Vec<(&'static str, String)> {
    const KIND: &str = "of another crate";
    let package = match tree {
        UseTree::Path(path) => path.ident.to_string(),
        UseTree::Rename(rename) => rename.ident.to_string(),
        UseTree::Name(name) => name.ident.to_string(),
        UseTree::Glob(_) | UseTree::Group(_) => return Vec::new(),
    };
    if !package.starts_with("pmesh_") {
        return Vec::new();
    }
    let (mut open, mut found) = (vec![tree], Vec::new());
    while let Some(tree) = open.pop() {
        match tree {
            UseTree::Path(path) => open.push(&path.tree),
            UseTree::Group(group) => open.extend(&group.items),
            UseTree::Name(name) => found.push((KIND, name.ident.to_string())),
            UseTree::Rename(rename) => found.push((KIND, rename.rename.to_string())),
            UseTree::Glob(_) => found.push((KIND, format!("all of {package}"))),
        }
    }
    found
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn of_growing(attributes: &[Attribute], closed: &'static str, growing: &'static str) -> &'static str {
    if attributes.iter().any(|attribute| attribute.path().is_ident("non_exhaustive")) {
        growing
    } else {
        closed
    }
}

fn fields(of: &str, fields: &Fields) -> Vec<(&'static str, String)> {
    let public = fields.iter().enumerate().filter(|(_, field)| is_public(&field.vis));
    let named = public.map(|(index, field)| {
        let name = field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
        ("field", format!("{of}::{name}"))
    });
    named.collect()
}

fn methods(item: &syn::ItemImpl) -> Vec<(&'static str, String)> {
    let syn::Type::Path(of) = &*item.self_ty else { return Vec::new() };
    let Some(of) = of.path.segments.last() else { return Vec::new() };
    let public = item.items.iter().filter_map(|item| match item {
        ImplItem::Fn(method) if is_public(&method.vis) => Some(("method", &method.sig.ident)),
        ImplItem::Const(value) if is_public(&value.vis) => Some(("const", &value.ident)),
        _ => None,
    });
    public.map(|(kind, name)| (kind, format!("{}::{name}", of.ident))).collect()
}

#[cfg(test)]
mod tests {
    use super::{public_items, public_modules};

    #[test]
    fn what_others_can_name_is_listed_and_nothing_else() {
        let source = "
            pub mod open; mod closed;
            #[non_exhaustive] pub struct A { pub b: u8, c: u8 }
            impl A { pub fn d(&self) {} pub(crate) fn e(&self) {} }
            impl Clone for A { fn clone(&self) -> Self { todo!() } }
            pub enum F { G, H }
            pub trait I { fn j(); }
            pub(crate) fn k() {}
            pub use pmesh_m as m; pub use pmesh_n::{N, o::P}; use pmesh_q::Q; pub use own::R; pub use hyper::S;
            #[cfg(test)] mod tests { pub fn l() {} }";
        let file = syn::parse_file(source).unwrap();
        let found: Vec<String> =
            public_items(&file).into_iter().map(|(kind, name)| format!("{kind} {name}")).collect();
        let expected = [
            "struct (non_exhaustive) A",
            "field A::b",
            "method A::d",
            "enum F",
            "variant F::G",
            "variant F::H",
            "trait I",
            "method I::j",
            "of another crate m",
            "of another crate P",
            "of another crate N",
        ];
        assert_eq!(found, expected);
        assert_eq!(public_modules(&file).into_iter().collect::<Vec<_>>(), ["open"]);
    }
}
