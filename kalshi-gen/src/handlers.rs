//! The other half of the table, for a server: one method for each operation.
//!
//! No method has a body, so that a server does not compile until it answers a new operation.

use quote::{format_ident, quote};

use crate::{docs::doc_line, families::Surface, operations::OperationModel};

/// Returns the trait and its dispatcher, as a file of their own: only a server compiles it.
pub(crate) fn emit(operations: &[OperationModel], surface: &Surface) -> String {
    let id = surface.path("OperationId");
    let about = doc_line(&format!(
        "Answers every operation of the {}: what a server, such as a simulator, implements.",
        surface.title
    ));
    let methods: Vec<_> =
        operations.iter().map(|operation| format_ident!("{}", operation.id)).collect();
    let ids = operations.iter().map(|operation| format_ident!("{}", operation.builder));
    let docs = operations
        .iter()
        .map(|operation| format!("Answers `{} {}`.", operation.method, operation.path));
    let code = quote! {
        #about
        ///
        /// `Call` is what the server knows of a request. Methods take `self` by value, so that it
        /// can be a reference of either kind. No method has a default: a new operation of the
        /// document does not compile until it is answered.
        pub trait Operations<Call> {
            /// The server's answer; a future, if it likes.
            type Response;

            #(#[doc = #docs] fn #methods(self, call: Call) -> Self::Response;)*
        }

        /// Answers a call by the method of its operation.
        pub fn dispatch<Call, Handler: Operations<Call>>(
            id: #id,
            handler: Handler,
            call: Call,
        ) -> Handler::Response {
            match id {
                #(#id::#ids => handler.#methods(call),)*
            }
        }
    };
    code.to_string()
}
