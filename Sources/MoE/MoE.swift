// The types in MoE's signatures are MoECore's, and the language has no other way to pass an import on: without it a user
// of `import MoE` could not call `Activations.random`, because MemberImportVisibility hides members of other modules.
@_exported public import MoECore
