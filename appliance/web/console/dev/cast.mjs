// A morning at a clinic and at a tea shop, in both languages: what the stage plays while the console is being built.
// Each line is [who, minutes ago, text or file]; who is v (visitor), m (the agent who looks), or a colleague's key.

const en = {
  me: { name: "Clara Weber", login: "clara" },
  colleagues: { b: "Tom Okafor", c: "Mei Lin" },
  sites: [
    { app: "clinic7f3k", name: "Harbour Clinic", origins: ["https://www.harbour-clinic.example"], colour: "#1f6b5a" },
    { app: "tea9q2mx", name: "Green Leaf Tea", origins: ["https://shop.greenleaf.example", "https://m.greenleaf.example"], colour: "#8a4b1f" },
  ],
  talks: [
    { key: "anna", site: 0, visitor: "Anna Lindqvist", vouched: true, device: "iPhone · Safari", online: true, to: "m", unread: 2, page: "https://www.harbour-clinic.example/booking?doctor=sato", lines: [
      ["v", 34, "Good morning! I have an appointment with Dr. Sato on Thursday at 10:30, but I have just been told that I must be in Lisbon that day."],
      ["v", 33, "Is there any way to move it to the week after?"],
      ["m", 31, "Good morning Ms Lindqvist. Of course, one moment, I am looking at Dr. Sato’s calendar."],
      ["m", 28, "There is room on Tuesday the 9th at 09:15 and on Thursday the 11th at 14:00. Would one of these suit you?"],
      ["v", 22, "Thursday the 11th is perfect, thank you so much."],
      ["m", 21, "Done. You will receive the confirmation by letter, and this chat keeps it too:\n\nThu 11 December, 14:00\nDr. Sato, room 3.12\nPlease bring your last blood results."],
      ["v", 12, "About the blood results: I only have them as a photo. Is this readable enough?"],
      ["v", 11, { image: "letter", name: "IMG_2204.jpg", width: 900, height: 1200 }],
      ["m", 7, "That is perfectly readable. I have put a note in your file, you need not bring the paper."],
      ["v", 3, "Wonderful. One last question: may I eat breakfast before the appointment?"],
      ["v", 2, "Or should I come fasting, as last time?"],
    ] },
    { key: "jonas", site: 1, visitor: "Jonas Meyer", vouched: true, device: "Windows · Firefox", online: true, to: "m", unread: 0, page: "https://shop.greenleaf.example/orders/48812", lines: [
      ["v", 58, "Hi, order 48812 arrived today, but one of the tins is dented. See photo."],
      ["v", 57, { image: "tin", name: "tin.jpg", width: 1200, height: 900 }],
      ["m", 54, "Oh no, I am sorry about that. The tea inside is sealed and fine, but a gift should not look like this."],
      ["m", 53, "I can send you a new tin today, no need to return anything. Is the address on the order still right?"],
      ["v", 49, "Yes, same address. That is very kind!"],
      ["m", 48, { file: "return-label-48812.pdf", mime: "application/pdf", size: 184_220 }],
      ["m", 48, "Just in case: a label, should you want to send the old one back for recycling. It leaves at four."],
    ] },
    { key: "anon1", site: 1, visitor: "", online: true, to: null, unread: 1, device: "Android · Chrome", page: "https://shop.greenleaf.example/tea/silver-needle", lines: [
      ["v", 6, "Hello, is the Silver Needle from this spring’s harvest? The page only says “2026”."],
    ] },
    { key: "ravi", site: 0, visitor: "Ravi", online: true, to: null, unread: 3, page: "https://www.harbour-clinic.example/emergency", lines: [
      ["v", 2, "hi"],
      ["v", 2, "my daughter has 39.2 fever since last night"],
      ["v", 1, "should we come in or call first?"],
    ] },
    { key: "eva", site: 1, visitor: "Eva Novák", vouched: true, online: false, to: "m", unread: 0, page: "https://shop.greenleaf.example/cart", lines: [
      ["v", 128, "Do you ship to Prague before Christmas if I order this week?"],
      ["m", 126, "Yes. Orders until the 15th arrive before Christmas; to Prague it usually takes three days."],
      ["v", 121, "Great, then I will add the oolong sampler too 🍵"],
      ["m", 120, "Lovely choice. Enjoy!"],
    ] },
    { key: "george", site: 0, visitor: "George P. Hartmann-Oyelaran", vouched: true, online: false, to: "b", unread: 0, page: "https://www.harbour-clinic.example/", lines: [
      ["v", 190, "Can I get a copy of the invoice from August?"],
      ["b", 186, "Certainly. Shall it go to your insurance directly?"],
      ["v", 170, "To me, please. By letter."],
      ["b", 168, "It leaves today."],
    ] },
    { key: "yuki", site: 1, visitor: "Yuki Tanaka", online: true, to: "c", unread: 0, page: "https://m.greenleaf.example/", lines: [
      ["v", 44, "抹茶の在庫はありますか？"],
      ["c", 41, "はい、宇治の抹茶が30g缶でございます。"],
    ] },
    { key: "old1", site: 0, visitor: "Marta Silva", vouched: true, online: false, to: "m", closed: true, page: "https://www.harbour-clinic.example/vaccination", lines: [
      ["v", 1500, "Is the travel vaccination clinic open on Saturdays?"], ["m", 1497, "Every first Saturday of the month, 9 to 12."], ["v", 1490, "Thank you!"],
    ] },
    { key: "old2", site: 1, visitor: "", online: false, to: "b", closed: true, page: "https://shop.greenleaf.example/", lines: [
      ["v", 2990, "Do you have gift cards?"], ["b", 2985, "We do, from 10 to 200 euros, on paper or by link."], ["v", 2980, "ok thx"],
    ] },
  ],
  answers: ["Thank you, that helps a lot.", "One moment, I have to look that up.", "Yes, exactly.", "Perfect 👍"],
};

const zh = {
  me: { name: "陈静", login: "chenjing" },
  colleagues: { b: "王芳", c: "李伟明" },
  sites: [
    { app: "clinic7f3k", name: "康宁诊所", origins: ["https://www.kangning.example"], colour: "#1f6b5a" },
    { app: "tea9q2mx", name: "青禾茶舍", origins: ["https://shop.qinghe.example", "https://m.qinghe.example"], colour: "#8a4b1f" },
  ],
  talks: [
    { key: "anna", site: 0, visitor: "林晓雯", vouched: true, device: "iPhone · Safari", online: true, to: "m", unread: 2, page: "https://www.kangning.example/yuyue?doctor=zuoteng", lines: [
      ["v", 34, "您好，我约了周四上午十点半佐藤医生的号，可是刚接到通知那天要去杭州出差。"],
      ["v", 33, "能不能改到下一周？"],
      ["m", 31, "林女士您好，可以的，请稍等，我查一下佐藤医生的排班。"],
      ["m", 28, "下周二（9日）上午 9:15 和周四（11日）下午 2:00 还有号，您看哪个时间方便？"],
      ["v", 22, "周四下午最合适，太感谢了！"],
      ["m", 21, "已为您改好：\n\n12月11日（周四）14:00\n佐藤医生 · 三楼 3.12 诊室\n请携带最近一次的血常规报告。"],
      ["v", 12, "报告我这里只有照片，这样能看清吗？"],
      ["v", 11, { image: "letter", name: "IMG_2204.jpg", width: 900, height: 1200 }],
      ["m", 7, "非常清楚。我已经在您的档案里备注，当天不用再带纸质报告。"],
      ["v", 3, "好的。最后再问一下：就诊当天可以吃早饭吗？"],
      ["v", 2, "还是像上次一样需要空腹？"],
    ] },
    { key: "jonas", site: 1, visitor: "周建国", vouched: true, device: "Windows · Edge", online: true, to: "m", unread: 0, page: "https://shop.qinghe.example/orders/48812", lines: [
      ["v", 58, "你好，订单 48812 今天到了，但有一个茶罐被压瘪了，见照片。"],
      ["v", 57, { image: "tin", name: "茶罐.jpg", width: 1200, height: 900 }],
      ["m", 54, "非常抱歉！里面的茶是密封的，不受影响，但送礼确实不能这样。"],
      ["m", 53, "今天就给您补发一个新罐，旧的不用寄回。收货地址还是订单上的吗？"],
      ["v", 49, "是的，地址不变，辛苦了。"],
      ["m", 48, { file: "退货单-48812.pdf", mime: "application/pdf", size: 184_220 }],
      ["m", 48, "附上退货单，以备您想把旧罐寄回。新罐下午四点发出。"],
    ] },
    { key: "anon1", site: 1, visitor: "", online: true, to: null, unread: 1, device: "Android · Chrome", page: "https://shop.qinghe.example/tea/baihaoyinzhen", lines: [
      ["v", 6, "请问白毫银针是今年春天的新茶吗？页面上只写了“2026”。"],
    ] },
    { key: "ravi", site: 0, visitor: "小雨妈妈", online: true, to: null, unread: 3, page: "https://www.kangning.example/jizhen", lines: [
      ["v", 2, "在吗"],
      ["v", 2, "孩子昨晚开始发烧，39.2度"],
      ["v", 1, "是直接过来还是先打电话？"],
    ] },
    { key: "eva", site: 1, visitor: "欧阳明月", vouched: true, online: false, to: "m", unread: 0, page: "https://shop.qinghe.example/cart", lines: [
      ["v", 128, "这周下单，年前能寄到乌鲁木齐吗？"],
      ["m", 126, "可以的。15日之前的订单年前都能送达，到乌鲁木齐一般三到四天。"],
      ["v", 121, "那我再加一份乌龙品鉴装 🍵"],
      ["m", 120, "好眼光，祝您喝得开心！"],
    ] },
    { key: "george", site: 0, visitor: "张伟", vouched: true, online: false, to: "b", unread: 0, page: "https://www.kangning.example/", lines: [
      ["v", 190, "能补开一张八月份的发票吗？"],
      ["b", 186, "可以，需要直接寄给保险公司吗？"],
      ["v", 170, "寄给我就行，谢谢。"],
      ["b", 168, "今天寄出。"],
    ] },
    { key: "yuki", site: 1, visitor: "Yuki Tanaka", online: true, to: "c", unread: 0, page: "https://m.qinghe.example/", lines: [
      ["v", 44, "抹茶の在庫はありますか？"],
      ["c", 41, "はい、宇治の抹茶が30g缶でございます。"],
    ] },
    { key: "old1", site: 0, visitor: "吴桂英", vouched: true, online: false, to: "m", closed: true, page: "https://www.kangning.example/jiezhong", lines: [
      ["v", 1500, "周六可以打疫苗吗？"], ["m", 1497, "每月第一个周六上午九点到十二点。"], ["v", 1490, "谢谢！"],
    ] },
    { key: "old2", site: 1, visitor: "", online: false, to: "b", closed: true, page: "https://shop.qinghe.example/", lines: [
      ["v", 2990, "有礼品卡吗？"], ["b", 2985, "有的，面额 100 到 2000 元，纸质或链接均可。"], ["v", 2980, "好的"],
    ] },
  ],
  answers: ["谢谢，非常有帮助。", "稍等，我查一下。", "对，没错。", "好的 👍"],
};

export const cast = { en, zh };
