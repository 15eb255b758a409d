/** Bytes of files as addresses that an element can show; a bounded number is kept. */
import type { Client, Entry } from "@lodge/client";

const KEPT_MAX = 60;

export class Pictures {
  /** Oldest use first. */
  private readonly kept = new Map<string, Promise<string>>();

  constructor(private readonly client: Client) {}

  /** Of something that we hold ourselves, while it is on its way and after. */
  ofBlob(key: string, blob: Blob): Promise<string> {
    return this.get(key, () => Promise.resolve(blob));
  }

  ofEntry(key: string, entry: Entry): Promise<string> {
    return this.get(key, () => this.client.file(entry));
  }

  private get(key: string, bytes: () => Promise<Blob>): Promise<string> {
    let address = this.kept.get(key);
    if (!address) {
      address = bytes().then((blob) => URL.createObjectURL(blob));
      // What could not be fetched is asked for again the next time.
      address.catch(() => this.kept.delete(key));
    }
    this.kept.delete(key);
    this.kept.set(key, address);
    for (const [oldest, old] of this.kept) {
      if (this.kept.size <= KEPT_MAX) break;
      this.kept.delete(oldest);
      old.then(URL.revokeObjectURL, () => {});
    }
    return address;
  }
}
