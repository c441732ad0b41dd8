//! Which variables does a macro's body name? Jinja lets a macro be called with more arguments than it declares only if the body
//! names `varargs` or `kwargs`.

use std::collections::HashSet;

use minijinja::machinery::ast::{CallArg, Expr, Macro, Stmt};

/// The variables that are named, the bodies of other macros left out, and how many nodes were visited. The tree is as shallow as
/// the parser keeps it.
pub(super) fn variables_of<'s>(statements: &[Stmt<'s>]) -> (HashSet<&'s str>, usize) {
    let mut found = Found::default();
    of_statements(statements, &mut found);
    (found.names, found.nodes)
}

/// The same with those that the bodies of macros and `{% call %}` blocks name.
pub(super) fn all_variables_of<'s>(statements: &[Stmt<'s>]) -> (HashSet<&'s str>, usize) {
    let mut found = Found { into_macros: true, ..Found::default() };
    of_statements(statements, &mut found);
    (found.names, found.nodes)
}

#[derive(Default)]
struct Found<'s> {
    names: HashSet<&'s str>,
    nodes: usize,
    into_macros: bool,
}

fn of_statements<'s>(statements: &[Stmt<'s>], found: &mut Found<'s>) {
    for statement in statements {
        found.nodes += 1;
        match statement {
            Stmt::Template(template) => of_statements(&template.children, found),
            Stmt::EmitExpr(emit) => of_expr(&emit.expr, found),
            Stmt::ForLoop(for_loop) => {
                of_expr(&for_loop.iter, found);
                of_exprs(&for_loop.filter_expr, found);
                of_statements(&for_loop.body, found);
                of_statements(&for_loop.else_body, found);
            }
            Stmt::IfCond(cond) => {
                of_expr(&cond.expr, found);
                of_statements(&cond.true_body, found);
                of_statements(&cond.false_body, found);
            }
            Stmt::WithBlock(with) => {
                of_exprs(with.assignments.iter().map(|(_, value)| value), found);
                of_statements(&with.body, found);
            }
            Stmt::Set(set) => of_expr(&set.expr, found),
            Stmt::SetBlock(set) => {
                of_exprs(&set.filter, found);
                of_statements(&set.body, found);
            }
            Stmt::AutoEscape(block) => of_statements(&block.body, found),
            Stmt::FilterBlock(block) => {
                of_expr(&block.filter, found);
                of_statements(&block.body, found);
            }
            Stmt::CallBlock(call) => {
                of_expr(&call.call.expr, found);
                of_args(&call.call.args, found);
                of_macro(&call.macro_decl, found);
            }
            Stmt::Do(call) => {
                of_expr(&call.call.expr, found);
                of_args(&call.call.args, found);
            }
            Stmt::Macro(declaration) => of_macro(declaration, found),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
        }
    }
}

fn of_macro<'s>(declaration: &Macro<'s>, found: &mut Found<'s>) {
    if found.into_macros {
        of_exprs(&declaration.defaults, found);
        of_statements(&declaration.body, found);
    }
}

fn of_exprs<'a, 's: 'a>(exprs: impl IntoIterator<Item = &'a Expr<'s>>, found: &mut Found<'s>) {
    for expr in exprs {
        of_expr(expr, found);
    }
}

fn of_args<'s>(args: &[CallArg<'s>], found: &mut Found<'s>) {
    for arg in args {
        match arg {
            CallArg::Pos(expr)
            | CallArg::Kwarg(_, expr)
            | CallArg::PosSplat(expr)
            | CallArg::KwargSplat(expr) => of_expr(expr, found),
        }
    }
}

fn of_expr<'s>(expr: &Expr<'s>, found: &mut Found<'s>) {
    found.nodes += 1;
    match expr {
        Expr::Var(var) => drop(found.names.insert(var.id)),
        Expr::Const(_) => {}
        Expr::Slice(slice) => {
            of_expr(&slice.expr, found);
            of_exprs(slice.start.iter().chain(&slice.stop).chain(&slice.step), found);
        }
        Expr::UnaryOp(unary) => of_expr(&unary.expr, found),
        Expr::BinOp(op) => of_exprs([&op.left, &op.right], found),
        Expr::Compare(compare) => {
            of_expr(&compare.expr, found);
            of_exprs(compare.ops.iter().map(|op| &op.expr), found);
        }
        Expr::IfExpr(choice) => {
            of_exprs([&choice.test_expr, &choice.true_expr], found);
            of_exprs(&choice.false_expr, found);
        }
        Expr::Filter(filter) => {
            of_exprs(&filter.expr, found);
            of_args(&filter.args, found);
        }
        Expr::Test(test) => {
            of_expr(&test.expr, found);
            of_args(&test.args, found);
        }
        Expr::GetAttr(attr) => of_expr(&attr.expr, found),
        Expr::GetItem(item) => of_exprs([&item.expr, &item.subscript_expr], found),
        Expr::Call(call) => {
            of_expr(&call.expr, found);
            of_args(&call.args, found);
        }
        Expr::List(list) => of_exprs(&list.items, found),
        Expr::Tuple(tuple) => of_exprs(&tuple.items, found),
        Expr::Map(map) => of_exprs(map.keys.iter().chain(&map.values), found),
    }
}
