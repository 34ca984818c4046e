/** What went wrong, as a text of the page. */
export class Trouble extends Error {
  constructor(text, values = {}) {
    super(text);
    this.values = values;
  }
}
