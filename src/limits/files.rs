//! Caps of uploads, of the files that are kept, and of the pictures that are made of them.
//!
//! Owns: the numbers, each with its unit and its reason.
//! Never: is used but through [`crate::limits`].

/// An uploaded file: what the configuration may choose. Larger ones belong into a system that can
/// resume.
pub const UPLOAD_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// An uploaded file, unless the configuration says otherwise: a minute of a phone's video.
pub const UPLOAD_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// An uploaded picture. Cameras make 12 MiB; a decoder may hold the whole file.
pub const UPLOAD_IMAGE_BYTES_MAX: u64 = 20 * 1024 * 1024;
/// An uploaded sound: an hour of voice, or a song without loss.
pub const UPLOAD_AUDIO_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of one user's files, unless the configuration says otherwise: some thousand photos, or
/// thirty films.
pub const UPLOAD_USER_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;
/// What the configuration may choose: more than any disk has.
pub const UPLOAD_USER_BYTES_MAX: u64 = 1 << 50;
/// Uploads of one user in a minute, unless the configuration says otherwise: all pictures of a day
/// at once.
pub const UPLOADS_PER_MINUTE_DEFAULT: u32 = 60;
/// What the configuration may choose.
pub const UPLOADS_PER_MINUTE_MAX: u32 = 60_000;
/// A picture of a visitor about to register: what a phone's camera makes. Only a
/// small one is kept of it.
pub const PORTRAIT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Such pictures of one address at once: whoever cannot choose.
pub const ADDRESS_PORTRAITS_MAX: u64 = 10;
/// Pause after which it may send one more.
pub const ADDRESS_PORTRAIT_MS: u64 = 60_000;
/// Such pictures of all addresses at once: an open day.
pub const PORTRAITS_MAX: u64 = 300;
/// Pause after which one more may come: 1 GiB in a week if all of them are as large as they can be.
pub const PORTRAIT_MS: u64 = 30_000;
/// Uploads under way: each holds a chunk of memory and a descriptor.
pub const UPLOADS_MAX: usize = 64;
/// Of these, one user's: what browsers send to one server at once, and a phone. No user takes all
/// the places.
pub const USER_UPLOADS_MAX: usize = 8;
/// Of these, all portraits of visitors about to register: their networks alone tell them apart.
pub const GUEST_UPLOADS_MAX: usize = 16;
/// How long an upload may take as a whole: the default size over a slow line of 1 Mbit/s.
pub const UPLOAD_MS_MAX: u64 = 600_000;
/// How long an upload may pause, in all pauses until it has brought [`UPLOAD_STEP_BYTES`].
pub const UPLOAD_STALL_MS_MAX: u64 = 30_000;
/// See [`UPLOAD_STALL_MS_MAX`]. Together 550 bytes per second, slower than any phone: no upload
/// keeps a place with a byte now and then.
pub const UPLOAD_STEP_BYTES: usize = 16 * 1024;
/// Room that uploads leave on the disk: the database lives there too, and must not be the one that
/// finds it full.
pub const UPLOAD_SPARE_BYTES: u64 = 512 * 1024 * 1024;
/// Bytes of a body that was refused, or is not needed any more, that are read for the client's
/// sake.
pub const LINGER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long they are waited for.
pub const LINGER_MS_MAX: u64 = 2_000;
/// The head of a part of a form: some headers with a file name.
pub const MULTIPART_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a file read or written at once: one trip to a blocking thread for each.
pub const FILE_CHUNK_BYTES: usize = 128 * 1024;
/// Reads and writes of files under way, each on a thread of its own.
pub const FILE_JOBS_MAX: usize = 4;
/// Films that are looked through for their place at once: each is read from end to end, perhaps
/// twice.
pub const FILM_JOBS_MAX: usize = 1;
/// How long an upload has before a newcomer that finds all places taken may look at its pace.
pub const UPLOAD_SETTLE_MS: u64 = 5_000;
/// Bytes a second below which an upload gives way then: a phone at the edge of its network.
pub const UPLOAD_PACE_BYTES: u64 = 16 * 1024;
/// Bytes after which an upload looks again whether there is room on the disk, and for how many it
/// asks if it does not say how long it is.
pub const UPLOAD_ROOM_BYTES: u64 = 8 * 1024 * 1024;
/// Pictures that wait for their turn: as many as there are places for uploads. Each is a file on
/// the disk, and no memory.
pub const IMAGES_WAITING_MAX: usize = UPLOADS_MAX;
/// Pixels, in units of 2^20, of the pictures that one user has made anew at once: sixty of a
/// phone's camera.
pub const IMAGE_MEGAPIXELS_MAX: u64 = 768;
/// Pause after which a user may ask for 2^20 pixels more: 256 in a minute, which is a tenth of a
/// core.
pub const IMAGE_MEGAPIXEL_MS: u64 = 234;
/// How long a picture waits for its turn before the sender is told that the system is busy.
pub const IMAGE_WAIT_MS_MAX: u64 = 20_000;
/// Files that one message, avatar or icon holds: those that it names first. Our clients name two, a
/// picture and its small one.
pub const FILE_REFS_MAX: usize = 32;
/// Files that one transaction of the clean-up looks at; it holds up no commit for longer than a
/// batch of messages.
pub const FILES_RETIRED_MAX: u32 = 16;
/// How long a file is kept that nothing refers to, from its upload on: a message that is written
/// meanwhile finds it.
pub const FILE_GRACE_MS: u64 = 24 * 60 * 60 * 1000;
/// The least of it: what a client needs between the upload and the message.
pub const FILE_GRACE_MS_MIN: u64 = 60_000;
/// Age at which a draft, or a file on its way out, was left behind by a crash: six times as long as
/// an upload may take.
pub const FILES_LEFT_MS: u64 = 60 * 60 * 1000;
/// Pause between two looks for files that nothing holds any more: that late is a recalled picture
/// removed.
pub const FILES_LOOK_MS: u64 = 15_000;
/// Boxes of a film that are looked at for the place where it was taken: those of some hours in
/// fragments. A fragment has about a dozen, and lasts two seconds.
pub const BOXES_MAX: u32 = 256 * 1024;
/// Pieces of the items of one picture in boxes that are looked at.
pub const EXTENTS_MAX: u32 = 64 * 1024;
/// Boxes within each other: a film needs six.
pub const BOX_DEPTH_MAX: u32 = 8;
/// The largest table of boxes that is held in memory: where the pieces of a picture lie.
pub const BOX_TABLE_BYTES_MAX: usize = 256 * 1024;

/// The largest number of a user or a group of an old system that is kept: far above any in use, and
/// far below [`crate::ids::ID_MAX`], so that a broken row does not use up the numbers.
pub const IMPORTED_ID_MAX: u64 = 1 << 40;

/// Template files of an original's pages: fastIM and IMChat have some dozens.
pub const PAGES_MAX: usize = 512;
/// A template file, and a page made of them. The largest of the originals has 20 KiB.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// How deep templates may include each other, and directories of templates may lie: the originals
/// need two.
pub const PAGE_INCLUDES_MAX: usize = 16;
