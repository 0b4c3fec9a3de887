public import MoECore
