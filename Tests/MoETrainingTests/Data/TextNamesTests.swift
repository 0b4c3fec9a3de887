import Foundation
import MoERun
import MoETraining
import Testing

/// Texts under the names that users give to files and folders.
@Suite struct TextNamesTests {
  /// A new folder, in which files are named by bytes.
  private struct Folder {
    let path: String

    func file(_ name: [UInt8], _ text: String) throws {
      let file = unsafe try #require(fopen(cString(name), "w"))
      unsafe fputs(text, file)
      unsafe fclose(file)
    }

    func file(_ name: String, _ text: String) throws { try file(Array(name.utf8), text) }

    func folder(_ name: String) throws {
      try FileManager.default.createDirectory(atPath: "\(path)/\(name)", withIntermediateDirectories: true)
    }

    func link(_ name: String, to target: String) throws {
      #expect(unsafe symlink(target, "\(path)/\(name)") == 0)
    }

    func cString(_ name: [UInt8]) -> [CChar] {
      (Array("\(path)/".utf8) + name + [0]).map { CChar(bitPattern: $0) }
    }

    /// The paths inside the folder that were read, and those that were left out.
    func read(_ names: String..., leavingOut run: String? = nil) throws -> (
      files: [String], skipped: [String]
    ) {
      let corpus = try TextCorpus(
        names.map { $0.replacing("@", with: path) }, leavingOut: run.map { "\(path)/\($0)" })
      func short(_ path: String) -> String { path.replacing("\(self.path)/", with: "") }
      return (
        corpus.files.map { "\($0.label): \(short($0.path))" },
        corpus.skipped.map { "\(short($0.path)): \(short($0.reason))" }
      )
    }

    func complaint(_ name: String) -> String {
      do {
        _ = try TextCorpus([name.replacing("@", with: path)])
        return "accepted"
      } catch {
        return "\(error)".replacing(path, with: "@")
      }
    }
  }

  private func withFolder(_ body: (Folder) throws -> Void) throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "moe-\(UUID())").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(Folder(path: path))
  }

  @Test func anEqualsSignBelongsToTheNameOfWhatIsThere() throws {
    try withFolder { folder in
      try folder.folder("lang=de")
      try folder.folder("x=/y=z")
      try folder.file("lang=de/a.txt", "a\n")
      try folder.file("no=label.txt", "b\n")
      try folder.file("x=/y=z/c", "c\n")
      #expect(try folder.read("@/lang=de").files == ["lang=de: lang=de/a.txt"])
      #expect(try folder.read("@/no=label.txt").files == ["no=label: no=label.txt"])
      #expect(try folder.read("l=@/no=label.txt").files == ["l: no=label.txt"])
      #expect(try folder.read("l=m=@/lang=de").files == ["l=m: lang=de/a.txt"])
      #expect(try folder.read("=x=@/x=/y=z").files == ["=x: x=/y=z/c"])
      #expect(folder.complaint("=@/lang=de") == "=@/lang=de: the label before “=” is empty")
      #expect(folder.complaint("l=@/none") == "@/none: there is no such file or folder")
      // As run.json keeps them, and as a resumed run reads them.
      for name in ["@/lang=de", "@/no=label.txt", "l=m=@/x=/y=z", "=x=@/x=/y=z"] {
        let name = name.replacing("@", with: folder.path)
        let kept = try TextCorpus.absolute(name)
        #expect(try TextCorpus.absolute(kept) == kept)
        #expect(try TextCorpus([kept]).files == TextCorpus([name]).files)
      }
    }
  }

  @Test func linksAreFollowedAndNothingIsReadTwice() throws {
    try withFolder { folder in
      try folder.folder("real/deep")
      try folder.folder("outside/more")
      try folder.file("real/a", "a\n")
      try folder.file("real/deep/b", "b\n")
      try folder.file("outside/more/c", "c\n")
      try folder.link("books", to: "real")
      try folder.link("real/away", to: "../outside")
      try folder.link("real/again", to: "deep")
      try folder.link("real/deep/up", to: "../..")
      try folder.link("real/self", to: ".")
      try folder.link("real/nothing", to: "none")
      try folder.link("real/round", to: "round")
      try folder.link("outside/more/d", to: "../../real/a")
      let read = try folder.read("@/books")
      // “up” leads out of the folder, to the folder that has all of them.
      #expect(read.files == ["books: books/a", "books: books/away/more/c", "books: books/deep/b"])
      #expect(
        read.skipped == [
          "books/again: the same folder as books/deep", "books/deep/up/books: the same folder as books",
          "books/deep/up/outside: the same folder as books/away",
          "books/deep/up/real: the same folder as books",
          "books/nothing: a link that leads to no file or folder",
          "books/round: a link that leads to no file or folder", "books/self: the same folder as books",
          "books/away/more/d: the same file as books/a",
        ])
      #expect(folder.complaint("@/real/nothing") == "@/real/nothing: the link leads to no file or folder")
    }
  }

  @Test func entriesThatAreNoTextAreListed() throws {
    try withFolder { folder in
      try folder.folder("t/.git")
      try folder.folder("t/empty")
      try folder.file("t/.git/config", "x\n")
      try folder.file("t/.hidden", "x\n")
      try folder.file("t/a", "a\n")
      try folder.file("t/nothing", "")
      #expect(unsafe mkfifo("\(folder.path)/t/pipe", 0o600) == 0)
      let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      defer { close(descriptor) }
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      let name = Array("\(folder.path)/t/socket".utf8)
      try #require(name.count < 100)
      unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: name) }
      let bound = unsafe withUnsafePointer(to: &address) {
        unsafe bind(
          descriptor, UnsafeRawPointer($0).assumingMemoryBound(to: sockaddr.self),
          socklen_t(MemoryLayout<sockaddr_un>.size))
      }
      #expect(bound == 0)
      let read = try folder.read("@/t")
      #expect(read.files == ["t: t/a"])
      #expect(
        read.skipped == [
          "t/.git: a hidden folder", "t/.hidden: a hidden file", "t/pipe: a pipe", "t/socket: a socket",
          "t/nothing: the file is empty",
        ])
      #expect(folder.complaint("@/t/pipe").hasPrefix("@/t/pipe: it is a pipe, expected a file or folder"))
      #expect(folder.complaint("/dev/null").hasPrefix("/dev/null: it is a device"))
      #expect(folder.complaint("@/t/empty") == "@/t/empty: there is no text in the folder")
      #expect(try folder.read("@/t/.hidden").files == [".hidden: t/.hidden"])
      if getuid() != 0 {
        #expect(unsafe chmod("\(folder.path)/t/a", 0) == 0)
        #expect(
          folder.complaint("@/t").contains("a is left out, the file cannot be read: Permission denied"))
      }
    }
  }

  /// Bytes that are not UTF-8 become replacement characters, in the paths that are shown and in run.json.
  @Test func namesNeedNotBeUTF8() throws {
    try withFolder { folder in
      let latin = Array("caf".utf8) + [0xE9]
      #expect(unsafe mkdir(folder.cString(latin), 0o700) == 0)
      try folder.file(latin + Array("/b".utf8) + [0xFF] + Array(".txt".utf8), "b\n")
      try folder.file(latin + Array("/c.txt".utf8), "c\n")
      let files = ["caf\u{FFFD}/b\u{FFFD}.txt", "caf\u{FFFD}/c.txt"]
      let read = try TextCorpus([folder.path])
      #expect(Set(read.files.map { $0.path.replacing("\(folder.path)/", with: "") }) == Set(files))
      // The argument of a process is text, with the same replacements; run.json keeps it.
      for name in ["caf\u{FFFD}", "caf\u{FFFD}/b\u{FFFD}.txt"] {
        let kept = try TextCorpus.absolute("\(folder.path)/\(name)")
        #expect(try TextCorpus([kept]).files == TextCorpus(["\(folder.path)/\(name)"]).files)
      }
      #expect(
        try folder.read("@/caf\u{FFFD}/b\u{FFFD}.txt").files == ["b\u{FFFD}: caf\u{FFFD}/b\u{FFFD}.txt"])
      try folder.file(latin + Array("/b".utf8) + [0xFE] + Array(".txt".utf8), "d\n")
      #expect(folder.complaint("@/caf\u{FFFD}/b\u{FFFD}.txt").contains("another is as like it"))
    }
  }

  @Test func theRunIsNoText() throws {
    try withFolder { folder in
      try folder.folder("t/run")
      try folder.folder("t/other")
      try folder.file("t/a", "a\n")
      for name in ["run.json", "metrics.jsonl"] { try folder.file("t/other/\(name)", "{}\n") }
      try folder.file("t/run/run.json", "{}\n")
      try folder.file("t/run/sample.txt", "b\n")
      try folder.link("link", to: "t/run")
      for run in ["t/run", "t/../t/run/", "link"] {
        let read = try folder.read("@/t", leavingOut: run)
        #expect(read.files == ["t: t/a"])
        #expect(read.skipped == ["t/other: the folder of a run", "t/run: the folder of this run"])
      }
      #expect(folder.complaint("@/t/other") == "@/t/other: the folder of a run")
    }
  }
}
