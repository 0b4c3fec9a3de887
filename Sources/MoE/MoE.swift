@_exported public import MoECore
