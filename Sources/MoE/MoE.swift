// The types in MoE's signatures are MoECore's, and the language has no other way to re-export an import. Without it,
// code that only imports MoE could not call `Activations.random`, because MemberImportVisibility hides members of other
// modules.
@_exported public import MoECore
