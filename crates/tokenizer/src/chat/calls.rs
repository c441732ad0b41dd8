//! What does a call do? Macros, `{% call %}` blocks, recursive loops, functions and methods.

use std::rc::Rc;

use minijinja::machinery::ast::{Call, CallArg, Expr};

use super::args::Args;
use super::budget::Result;
use super::eval::{Declared, Renderer, Scope};
use super::value::{Map, Value};

impl<'t, 's> Renderer<'t, 's> {
    /// A call; `caller` is the body of the `{% call %}` block around it.
    pub(super) fn call(&mut self, call: &'t Call<'s>, caller: Option<Value>) -> Result<Value> {
        if let Expr::GetAttr(attr) = &call.expr {
            let receiver = self.eval(&attr.expr)?;
            let callable = match &receiver {
                Value::Namespace(namespace) => namespace.borrow().get(attr.name).cloned(),
                Value::Map(map) => map
                    .entries
                    .get(attr.name)
                    .filter(|value| matches!(value, Value::Macro(_) | Value::Function(_)))
                    .cloned(),
                _ => None,
            };
            let args = self.call_arguments(&call.args, caller)?;
            return match callable {
                Some(callable) if self.attribute(&receiver, attr.name)?.kind() == callable.kind() => {
                    self.call_value(&callable, args)
                }
                _ => self.method(&receiver, attr.name, &args),
            };
        }
        let callable = self.eval(&call.expr)?;
        let args = self.call_arguments(&call.args, caller)?;
        if let (Value::Undefined, Expr::Var(var)) = (&callable, &call.expr) {
            return self.budget.fail(format!("{} is undefined and cannot be called", var.id));
        }
        self.call_value(&callable, args)
    }

    fn call_value(&mut self, callable: &Value, args: Args) -> Result<Value> {
        match callable {
            Value::Macro(number) => self.call_macro(*number, &args),
            Value::Function(name) => self.function(name, args),
            Value::Loop(number) => {
                let [value] = self.bind("loop", &args, [""])?;
                match value {
                    Some(value) => self.recurse(*number, &value.clone()),
                    None => self.budget.fail("loop needs something to loop over"),
                }
            }
            Value::Joiner(joiner) => {
                let [] = self.bind("a joiner", &args, [])?;
                Ok(if joiner.used.replace(true) { joiner.separator.clone() } else { Value::str("") })
            }
            other => self.budget.fail(format!("{} cannot be called", other.kind())),
        }
    }

    fn call_arguments(&mut self, args: &'t [CallArg<'s>], caller: Option<Value>) -> Result<Args> {
        let mut args = self.arguments(args)?;
        if let Some(caller) = caller {
            args.named.push(("caller".to_owned(), caller));
        }
        Ok(args)
    }

    pub(super) fn arguments(&mut self, args: &'t [CallArg<'s>]) -> Result<Args> {
        let mut found = Args::default();
        for arg in args {
            match arg {
                CallArg::Pos(expr) => found.positional.push(self.eval(expr)?),
                CallArg::Kwarg(name, expr) => found.named.push(((*name).to_owned(), self.eval(expr)?)),
                CallArg::PosSplat(expr) => {
                    let list = self.eval(expr)?;
                    found.positional.extend(self.iterate(&list)?);
                }
                CallArg::KwargSplat(expr) => match self.eval(expr)? {
                    Value::Map(map) => {
                        self.budget.take(map.entries.len() * 64)?;
                        for (key, value) in &map.entries {
                            let Some(name) = key.as_str() else {
                                return self.budget.fail("names of arguments are strings");
                            };
                            self.budget.take(name.len())?;
                            found.named.push((name.to_owned(), value.clone()));
                        }
                    }
                    other => return self.budget.fail(format!("** needs a map, not {}", other.kind())),
                },
            }
        }
        Ok(found)
    }

    /// Calls a macro: it sees its arguments and the variables around its declaration.
    fn call_macro(&mut self, number: usize, args: &Args) -> Result<Value> {
        let Some(Declared { declaration, scope }) = self.macros.get(number) else {
            return Ok(Value::Undefined);
        };
        let (declaration, scope) = (*declaration, Scope::within(scope));
        self.budget.enter()?;
        let names: Vec<&str> = declaration
            .args
            .iter()
            .filter_map(|param| if let Expr::Var(var) = param { Some(var.id) } else { None })
            .collect();
        let mut values: Vec<Option<Value>> = args.positional.iter().cloned().map(Some).collect();
        let extra = values.split_off(values.len().min(names.len()));
        values.resize(names.len(), None);
        let mut unknown = Map::new();
        self.budget.step(args.named.len().saturating_mul(1 + names.len() / 16))?;
        for (name, value) in &args.named {
            match names.iter().position(|known| known == name).and_then(|place| values.get_mut(place)) {
                Some(free @ None) => *free = Some(value.clone()),
                Some(_) => {
                    return self.budget.fail(format!("macro {}: {name} is given twice", declaration.name));
                }
                None => drop(unknown.insert(name.as_str().into(), value.clone())),
            }
        }
        let caller = unknown.shift_remove("caller");
        if !extra.is_empty() || !unknown.is_empty() || caller.is_some() {
            let (uses, nodes) = super::uses::variables_of(&declaration.body);
            self.budget.step(nodes)?;
            if !extra.is_empty() && !uses.contains("varargs") {
                let (name, count) = (declaration.name, names.len());
                return self.budget.fail(format!("macro {name} takes at most {count} arguments"));
            }
            if caller.is_some() && !uses.contains("caller") {
                return self.budget.fail(format!("macro {} does not call its caller", declaration.name));
            }
            if let Some((key, _)) = unknown.first().filter(|_| !uses.contains("kwargs")) {
                let key = key.as_str().unwrap_or_default();
                return self.budget.fail(format!("macro {} has no argument {key:?}", declaration.name));
            }
        }
        let varargs = self.budget.admit(Value::tuple(extra.into_iter().flatten().collect()))?;
        let kwargs = self.budget.admit(Value::map(unknown))?;
        let without_default = names.len() - declaration.defaults.len().min(names.len());
        let value = self.within(Rc::clone(&scope), |this| {
            this.set("varargs", varargs)?;
            this.set("kwargs", kwargs)?;
            this.set("caller", caller.unwrap_or(Value::Undefined))?;
            for (i, (name, value)) in names.iter().zip(values).enumerate() {
                let default = i.checked_sub(without_default).and_then(|i| declaration.defaults.get(i));
                let value = match (value, default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => this.eval(default)?,
                    (None, None) => Value::Undefined,
                };
                this.set(name, value)?;
            }
            Ok(())
        });
        value?;
        let text = self.macro_body(declaration, scope)?;
        self.budget.leave();
        Ok(text)
    }
}
