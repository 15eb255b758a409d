// Class names come from the styles themselves, so that a build in another folder gives the same bytes.
export default {
  compilerOptions: { cssHash: ({ hash, css }) => `l${hash(css)}` },
};
